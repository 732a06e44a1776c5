"""A person's consent at the real server: theirs in a browser, or filled into its plain forms with a name and password.

In a browser the address to open is printed. The way back leads to POSTFLOW_LIVE_CALLBACK, where this waits; a person
whose browser is on another machine pastes the address it ended at.
"""

import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Empty, Queue
from urllib.parse import urljoin, urlsplit

import httpx

PATIENCE_S = 600.0
_MOST_PAGES = 10


# -- in a browser ------------------------------------------------------------------------------------------------


def by_browser(url: str, callback: str, say: "Say") -> str:
    """The query with which the server sends the person back."""
    say(f"\nOpen this address, sign in as the account to test with, and allow it:\n\n  {url}\n")
    say(f"Waiting at {callback}. If your browser cannot reach that, paste the address at which it ended here:")
    give_up = time.monotonic() + PATIENCE_S
    with _waiting_at(callback) as came:
        while time.monotonic() < give_up:
            try:
                return came.get(timeout=0.5)
            except Empty:
                pasted = _pasted()
            if "code=" in pasted:
                return urlsplit(pasted.strip()).query
    raise AssertionError(f"Nobody came back from {url} within {PATIENCE_S:.0f} s.")


def _pasted() -> str:
    try:
        ready, _, _ = select.select([sys.__stdin__], [], [], 0)
        return sys.__stdin__.readline() if ready else ""
    except (OSError, ValueError):  # no terminal, or captured
        return ""


@contextmanager
def _waiting_at(callback: str) -> Iterator["Queue[str]"]:
    came: Queue[str] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found = parts.path == urlsplit(callback).path and bool(parts.query)
            self.send_response(200 if found else 404)
            self.end_headers()
            if found:
                self.wfile.write(b"Thank you. Go back to where the test runs.")
                came.put(parts.query)

        def log_message(self, format: str, *args: object) -> None:
            """Silent: the query is a secret."""

    with HTTPServer(("127.0.0.1", urlsplit(callback).port or 80), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield came
        server.shutdown()


class Say:
    """Prints past pytest's capture."""

    def __call__(self, sentence: str) -> None:
        print(sentence, file=sys.__stderr__, flush=True)


# -- by forms ----------------------------------------------------------------------------------------------------


@dataclass
class _Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    name_field: str = ""
    password_field: str = ""
    button: tuple[str, str] | None = None


def by_forms(url: str, callback: str, name: str, password: str) -> str:
    """Signs in and presses the button that allows; nothing but GET, POST and cookies, as a browser without script."""
    with httpx.Client(timeout=60, headers={"Accept": "text/html"}) as http:
        answer = http.get(url)
        for _ in range(_MOST_PAGES):
            if answer.has_redirect_location:
                there = urljoin(str(answer.url), answer.headers["Location"])
                if there.startswith(callback):
                    return urlsplit(there).query
                answer = http.get(there)
                continue
            assert answer.status_code < 400, f"{answer.url.copy_with(query=None)} answers {answer.status_code}"
            form = _the_one(answer.text)
            if form.password_field:
                form.fields |= {form.name_field: name, form.password_field: password}
            elif form.button:
                form.fields[form.button[0]] = form.button[1]
            to = urljoin(str(answer.url), form.action or str(answer.url))
            parts = urlsplit(str(answer.url))
            told = {"Origin": f"{parts.scheme}://{parts.netloc}", "Referer": str(answer.url)}  # as a browser does
            answer = http.request(form.method, to, data=form.fields, headers=told)
    raise AssertionError("The server's pages lead nowhere: connect by a browser, or with a token.")


def _the_one(page: str) -> _Form:
    """The form that signs in, else the one that allows: of two, the one that does not deny."""
    parser = _Forms()
    parser.feed(page)
    forms = [one for one in parser.found if one.method == "POST"]
    for one in forms:
        if one.password_field and one.name_field:
            return one
    allowing = [one for one in forms if one.fields.get("_method", "").lower() != "delete" and "out" not in one.action]
    assert allowing, "There is no form to sign in or to allow with: connect by a browser, or with a token."
    return next((one for one in allowing if "authorize" in one.action), allowing[0])


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Form] = []
        self._within = False
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(_Form(said.get("action", ""), said.get("method", "get").upper()))
            self._within = True
        elif self._within and tag == "input":
            self._input(self.found[-1], said)
        elif self._within and tag == "select":
            self._select = said.get("name", "")
        elif self._within and tag == "option" and self._select:
            if "selected" in said or self._select not in self.found[-1].fields:
                self.found[-1].fields[self._select] = said.get("value", "")
        elif self._within and tag == "button" and said.get("type", "submit") == "submit" and said.get("name"):
            self._press(self.found[-1], said["name"], said.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        self._within = self._within and tag != "form"

    def _input(self, form: _Form, said: dict[str, str]) -> None:
        name, kind = said.get("name", ""), said.get("type", "text").lower()
        if not name:
            return
        if kind == "password":
            form.password_field = name
        elif kind in ("text", "email"):
            form.name_field = form.name_field or name
        elif kind == "submit":
            self._press(form, name, said.get("value", ""))
        elif kind not in ("checkbox", "radio") or "checked" in said or name not in form.fields:
            form.fields[name] = said.get("value", "on")

    def _press(self, form: _Form, name: str, value: str) -> None:
        if form.button is None and not any(word in value.lower() for word in ("deny", "reject", "cancel")):
            form.button = (name, value)
