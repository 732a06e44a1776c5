"""One run against one real server: see docs/testing-live.md for its settings. Nothing here is collected but by
`python3 run.py test live`: the cases' file is not named as tests are.
"""

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest

from tests.conftest import UrlOf, a_database
from tests.live import consent
from tests.live.account import PREFIX, Account
from tests.live.between import Between, Passing
from tests.live.house import House, Out

UNNAMED = "No server is named: set POSTFLOW_LIVE_URL, and see docs/testing-live.md."
CALLBACK = "http://127.0.0.1:8765"


def setting(name: str) -> str:
    return os.environ.get(f"POSTFLOW_LIVE_{name}", "").strip()


# -- what a case leaves in the table ---------------------------------------------------------------------------


@dataclass
class Row:
    case: str
    result: str = "not finished"
    late_ms: float | None = None
    answered_ms: float | None = None
    count: str = ""


@dataclass
class Record:
    title: str = ""
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    tidied: str = "Nothing was published."


RECORD = Record()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not RECORD.rows:
        return
    heads = ("case", "result", "sent late", "answered", "on the server")
    lines = [
        (row.case, row.result, _ms(row.late_ms), _ms(row.answered_ms), row.count)
        for row in RECORD.rows
    ]  # fmt: skip
    widths = [max(len(line[column]) for line in [heads, *lines]) for column in range(len(heads))]
    terminalreporter.write_sep("=", RECORD.title)
    for line in [heads, *lines]:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    for remark in [*RECORD.remarks, RECORD.tidied]:
        terminalreporter.write_line(remark)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:+.0f} ms"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report, row = outcome.get_result(), item.stash.get(_ROW, None)
    if row and call.excinfo and report.when == "call":
        said = str(call.excinfo.value).strip().splitlines() or [call.excinfo.typename]
        row.result = ("left out: " if report.skipped else "FAILED: ") + said[0].removeprefix("Skipped: ")


_ROW = pytest.StashKey[Row]()


@pytest.fixture
def row(request: pytest.FixtureRequest, live: "Live") -> Row:
    """This case's line of the table; its name is the test's."""
    name = request.node.name.removeprefix("test_").replace("_", " ")
    request.node.stash[_ROW] = made = Row(name)
    RECORD.rows.append(made)
    return made


# -- the run -----------------------------------------------------------------------------------------------------


@dataclass
class Live:
    """Everything a case needs. `account` is there once PostFlow is connected."""

    house: House
    between: Between
    run: str
    _account: Account | None = None
    _cases: int = 0

    @property
    def account(self) -> Account:
        if self._account is None:
            pytest.skip("PostFlow is not connected to the server.")
        return self._account

    def marker(self) -> str:
        self._cases += 1
        return f"{PREFIX}{self.run}c{self._cases:02}z"

    def connect(self) -> None:
        """With the token that is set, else by a person's consent."""
        if token := setting("TOKEN"):
            self.house.connect_by_token(token)
        else:
            url = self.between.as_the_server_says(self.house.consent_page())
            callback = parse_qs(urlsplit(url).query)["redirect_uri"][0]
            if name := setting("NAME"):
                query = consent.by_forms(url, callback, name, setting("PASSWORD"))
            else:
                query = consent.by_browser(url, callback, consent.Say())
            self.house.came_back(callback, query)
        if self._account:
            self._account.close()
        began_at = self._account.began_at if self._account else None
        self._account = Account(self.between.server_url, setting("TOKEN") or self.house.token(), self.run)
        self._account.began_at = began_at or self._account.began_at

    def passed(self, since: int) -> list[Passing]:
        """The commit requests that came by from the `since`th on."""
        return self.between.commits[since:]

    def timed(self, row: Row, out: Out, since: int) -> None:
        """How late its first request left for the server, and when the last one was answered."""
        seen, due = self.passed(since), out.due.timestamp()
        if seen:
            row.late_ms = 1000 * (seen[0].came_at - due)
        if seen and seen[-1].answered_at:
            row.answered_ms = 1000 * (seen[-1].answered_at - due)

    def disconnect(self) -> bool:
        """What is to be deleted goes before the access does. True when the server takes its token no more."""
        account = self.account
        self.tidy()
        self.house.disconnect()
        self._account = None
        return not account.accepts_its_token()

    def tidy(self) -> None:
        if self._account is None:
            return
        left = self._account.tidy(self.house.remote_ids())
        said = "Could not be deleted, please do it by hand:\n  " + "\n  ".join(left)
        RECORD.tidied = said if left else "Everything the run published has been deleted again."


@pytest.fixture(scope="session")
def live(
    postgres: UrlOf, admin: psycopg.Connection, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    url = setting("URL").rstrip("/")
    if not url:
        pytest.skip(UNNAMED)
    _check_address(url)
    began = time.monotonic()
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        stack.enter_context(_ended_by_sigterm())
        between = Between(url)
        stack.callback(between.close)  # again, should the house not stand up
        name = stack.enter_context(a_database(admin, f"postflow_live_{os.getpid()}", template))
        logs = tmp_path_factory.mktemp("live") / "worker.log"
        house = House(postgres(name), setting("CALLBACK") or CALLBACK, between.url, logs)
        house.start(environment)
        stack.callback(house.close)
        live = Live(house, between, secrets.token_hex(4))
        stack.callback(
            lambda: RECORD.remarks.append(f"Took {time.monotonic() - began:.0f} s; the worker's log: {logs}")
        )
        stack.callback(live.tidy)
        stack.callback(between.close)
        stack.callback(house.kill_worker)  # first of all: nothing goes out any more
        RECORD.title = f"against {url}"
        yield live


def _check_address(url: str) -> None:
    """Its own address, or PostFlow would follow nodeinfo past the place in between."""
    host = urlsplit(url).netloc
    assert urlsplit(url).scheme in ("http", "https") and host, f"POSTFLOW_LIVE_URL is no web address: {url}"
    try:
        links = httpx.get(f"{url}/.well-known/nodeinfo", timeout=30, follow_redirects=True).json().get("links", [])
        named = {urlsplit(str(one.get("href"))).netloc for one in links}
    except (httpx.HTTPError, ValueError, AttributeError, TypeError) as wrong:
        pytest.fail(f"POSTFLOW_LIVE_URL: {url} does not answer as such a server does: {wrong!r}", pytrace=False)
    assert not named or host in named, f"The server calls itself {', '.join(named)}: set POSTFLOW_LIVE_URL to that."


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """So that what it published is deleted then, too."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)
