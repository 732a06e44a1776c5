"""Log lines: one JSON object each, or plain text to read in a terminal. Never a secret in them."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from postflow.config import Settings

#: Whatever is logged under a name that contains one of these is not written out.
_SECRET = ("token", "secret", "password", "authorization", "cookie", "sealed", "code_verifier")
#: Secrets that travel in addresses and headers; a signed link opens a picture for whoever reads it.
_SECRET_SHAPES = (
    (
        re.compile(
            r"(?i)\b((?:access_|refresh_|input_|exchange_)?token|client_secret|code|code_verifier|state|signature)=[^&\s\"'\\]+"
        ),
        r"\1=(hidden)",
    ),
    (re.compile(r"(?i)\bbearer\s+[\w.~+/=-]+"), "Bearer (hidden)"),
    (re.compile(r"/m/[\w.~-]{8,}"), "/m/(hidden)"),
    (re.compile(r"(\w+://[^\s:/@]*):[^\s/@]+@"), r"\1:(hidden)@"),
)
#: These say every request, connection or job; only their complaints matter here.
_CHATTY = ("httpx", "httpcore", "psycopg.pool", "urllib3", "procrastinate")


def configure(settings: Settings) -> None:
    """Once per process. Lines of other libraries come out in the same form."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # A logger that is kept from its first line on would go on by what was configured then.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_written(settings.log_format)],
        )
    )
    handler.set_name("postflow")
    root = logging.getLogger()
    # Ours of before, and the plain one of the `procrastinate` command, which would say each line a second time.
    for former in [one for one in root.handlers if one.get_name() == "postflow" or type(one) is logging.StreamHandler]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _written(log_format: str) -> list[Any]:
    """Tracebacks without the values of local variables, which are what secrets are kept in."""
    if log_format == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
            without_secrets,
        ]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain), without_secrets]


def without_secrets(_logger: Any, _method: str, line: str) -> str:
    """The last look at a finished line: other libraries put addresses and headers into their messages."""
    for pattern, instead in _SECRET_SHAPES:
        line = pattern.sub(instead, line)
    return line


def hide_secrets(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    for name in line:
        if any(part in name.lower() for part in _SECRET) and line[name] is not None:
            line[name] = "(hidden)"
    return line
