"""Static files, served before Flask sees the request: a year in the browser, under addresses that change when they do.

The digest of all files stands in the address, not in each name: /static/3f2a9c1b07de/compose.js. So what a script imports and
a style sheet names relative to itself has it too, and nothing has to be rewritten or built.
"""

import hashlib
import mimetypes
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flask import Flask, current_app, url_for
from whitenoise import WhiteNoise

from postflow import config
from web.middleware import security_headers

FOLDER = Path(__file__).parent.parent / "static"
#: Asked for without the digest, or with that of another release.
SHORT_S = 60
_OF_ANOTHER_RELEASE = re.compile(r"^/static/[0-9a-f]{12}/")


class Files(WhiteNoise):
    FOREVER = 365 * 24 * 3600

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """While a release is replaced, a page of one may ask a process of the other: it gets what there is, for now."""
        if environ.get("PATH_INFO", "") not in self.files:
            environ["PATH_INFO"] = _OF_ANOTHER_RELEASE.sub("/static/", environ.get("PATH_INFO", ""))
        return super().__call__(environ, start_response)


def register(app: Flask, settings: config.Settings) -> None:
    mimetypes.add_type("text/javascript", ".mjs")
    app.extensions["digest"] = digest(FOLDER)
    kept = f"/static/{app.extensions['digest']}/"
    served = Files(
        app.wsgi_app,
        max_age=SHORT_S,
        add_headers_function=security_headers.of_files(settings),
        immutable_file_test=lambda _path, url: url.startswith(kept),
    )
    for prefix in (kept, "/static/"):
        served.add_files(str(FOLDER), prefix)
    app.wsgi_app = served
    app.add_url_rule("/static/<path:filename>", "static", build_only=True)
    app.add_template_global(static)


def digest(folder: Path) -> str:
    """Of the names and contents of all files in it: twelve digits."""
    whole = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        content = path.read_bytes()
        whole.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return whole.hexdigest()[:12]


def static(filename: str) -> str:
    """A static file's address."""
    return url_for("static", filename=f"{current_app.extensions['digest']}/{filename}")
