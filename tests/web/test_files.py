"""Static files: a year in the browser under addresses that change with what is in them, scripts' imports included."""

import re
import shutil
from pathlib import Path
from urllib.parse import urljoin

from tests.web.conftest import Browser
from web.middleware import static_files

YEAR_S = 31_536_000
_IN_PAGE = re.compile(r'(?:src|href)="(/static/[^"]+)"')
_IMPORT = re.compile(r'(?:\bfrom|\bimport)\s*\(?\s*["\'](\.{0,2}/[^"\']+)["\']|url\(["\']?([^"\')]+)["\']?\)')


def test_every_file_a_page_leads_to_is_kept_for_a_year_what_its_scripts_import_included(ada: Browser):
    found = {
        url for page in ("/posts/new", "/", "/accounts", "/profile") for url in _IN_PAGE.findall(ada.get(page).text)
    }
    todo, seen = list(found), set[str]()
    while todo:
        seen.add(url := todo.pop())
        with ada.get(url) as answer:
            assert answer.status_code == 200, url
            assert answer.headers["Cache-Control"] == f"max-age={YEAR_S}, public, immutable", url
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"], url
            text = answer.text if url.endswith((".js", ".css")) else ""
        inside = (urljoin(url, first or second) for first, second in _IMPORT.findall(text))
        todo += [one for one in inside if one.startswith("/static/") and one not in seen]
    names = {url.partition("/static/")[2].partition("/")[2] for url in seen}
    assert {"app.js", "compose.js", "js/counting.js", "js/pictures.js", "app.css", "icon.svg"} <= names


def test_a_file_asked_for_without_the_digest_or_with_another_is_kept_for_a_minute_only(ada: Browser):
    for url in ("/static/app.css", "/static/0123456789ab/app.css", "/static/0123456789ab/js/counting.js"):
        with ada.get(url) as answer:
            assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "max-age=60, public"), url
    assert ada.get("/static/0123456789ab/nowhere.css").status_code == 404


def test_the_digest_changes_when_any_file_does_and_with_nothing_else(tmp_path: Path):
    copy = Path(shutil.copytree(static_files.FOLDER, tmp_path / "static"))
    assert static_files.digest(copy) == static_files.digest(static_files.FOLDER)
    (copy / "js" / "counting.js").write_text("export const count = {};")
    changed = static_files.digest(copy)
    (copy / "js" / "counting.js").rename(copy / "js" / "counters.js")
    assert len({static_files.digest(static_files.FOLDER), changed, static_files.digest(copy)}) == 3
