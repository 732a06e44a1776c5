"""The account on the real server, asked by the suite itself and never through PostFlow: what is there, and how often."""

import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import httpx

Status = dict[str, Any]

#: `pflive`, the run, the case: nobody writes that by chance, so what bears it may be deleted.
PREFIX = "pflive"
MARKER = re.compile(PREFIX + r"[0-9a-f]{8}c\d\dz")
_HOME = "/api/v1/timelines/home"
_PAGES = 10
_LONGEST_PAUSE_S = 90.0


class Account:
    """`run` is eight hexadecimal digits, new each time."""

    def __init__(self, server_url: str, token: str, run: str) -> None:
        self._http = httpx.Client(
            base_url=server_url,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=60,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self.run = run
        self.began_at = datetime.now(UTC)
        me = self._ask("GET", "/api/v1/accounts/verify_credentials").raise_for_status().json()
        self.remote_id, self.name = str(me["id"]), str(me.get("acct") or me.get("username"))

    def close(self) -> None:
        self._http.close()

    # -- counting --------------------------------------------------------------------------------------------

    def bearing(self, marker: str, known_ids: Iterable[str] = ()) -> list[Status]:
        """Every status of the account with this marker: from its list, its home timeline (some lists leave out what is
        not public), and by the ids that PostFlow knows.
        """
        found = {str(one["id"]): one for one in self._recent() if marker in words(one)}
        for one in known_ids:
            there = self.get(one)
            if there and marker in words(there):
                found[str(there["id"])] = there
        return list(found.values())

    def get(self, status_id: str) -> Status | None:
        answer = self._ask("GET", f"/api/v1/statuses/{status_id}")
        return answer.json() if answer.is_success else None

    def accepts_its_token(self) -> bool:
        return self._ask("GET", "/api/v1/accounts/verify_credentials").is_success

    def _recent(self, since: datetime | None = None) -> Iterator[Status]:
        since = since or self.began_at - timedelta(minutes=10)  # the clocks of two machines differ
        yield from self._listed(f"/api/v1/accounts/{self.remote_id}/statuses", since)
        if self._ask("GET", _HOME, params={"limit": "1"}).is_success:
            yield from (one for one in self._listed(_HOME, since) if self._is_own(one))

    def _listed(self, path: str, since: datetime) -> Iterator[Status]:
        before: dict[str, str] = {}
        for _ in range(_PAGES):
            page = self._ask("GET", path, params={"limit": "40", **before}).raise_for_status().json()
            yield from page
            if not page or min(map(_made_at, page)) < since:
                return
            before = {"max_id": str(page[-1]["id"])}

    def _is_own(self, status: Status) -> bool:
        return str((status.get("account") or {}).get("id")) == self.remote_id and not status.get("reblog")

    # -- tidying up ------------------------------------------------------------------------------------------

    def tidy(self, known_ids: Iterable[str] = ()) -> list[str]:
        """Deletes whatever this run has made; what could not be deleted, with the reason."""
        mine = {str(one["id"]): one for one in self._recent() if self._is_of_this_run(one)}
        for one in known_ids:
            if one not in mine and (there := self.get(one)) and self._is_of_this_run(there):
                mine[one] = there
        return self._deleted(mine.values())

    def tidy_after_others(self) -> list[str]:
        """What runs left behind that were ended by force; an hour ago or more, since another may be under way."""
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        left = [one for one in self._recent(hour_ago - timedelta(days=2)) if MARKER.search(words(one))]
        return self._deleted({str(one["id"]): one for one in left if _made_at(one) < hour_ago}.values())

    def _is_of_this_run(self, status: Status) -> bool:
        found = MARKER.search(words(status))
        return bool(found and found[0].startswith(PREFIX + self.run))

    def _deleted(self, statuses: Iterable[Status]) -> list[str]:
        left = []
        for one in sorted(statuses, key=_made_at, reverse=True):  # answers before what they answer
            answer = self._delete(str(one["id"]))
            if answer.status_code == 429 and (pause_s := _pause_s(answer)) <= _LONGEST_PAUSE_S:
                time.sleep(pause_s)
                answer = self._delete(str(one["id"]))
            if not answer.is_success and answer.status_code != 404:
                left.append(f"{one.get('url') or one['id']}: HTTP {answer.status_code}")
        return left

    def _delete(self, status_id: str) -> httpx.Response:
        return self._ask("DELETE", f"/api/v1/statuses/{status_id}")

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """All of it may be asked twice."""
        for pause_s in (1, 3, 9):
            try:
                return self._http.request(method, path, **options)
            except httpx.TransportError:
                time.sleep(pause_s)
        return self._http.request(method, path, **options)


def words(status: Status) -> str:
    """The text as it is shown, its warning before it."""
    shown = re.sub(r"<(?:br|/p|/div)[^>]*>", "\n", str(status.get("content") or ""))
    return unescape(f"{status.get('spoiler_text') or ''}\n{re.sub('<[^>]*>', '', shown)}")


def _made_at(status: Status) -> datetime:
    try:
        made = datetime.fromisoformat(str(status.get("created_at")))
    except ValueError:
        return datetime.now(UTC)
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def _pause_s(answer: httpx.Response) -> float:
    told = answer.headers.get("Retry-After") or answer.headers.get("X-RateLimit-Reset") or "60"
    if told.isdecimal():
        return float(told)
    try:
        return max(1.0, (datetime.fromisoformat(told) - datetime.now(UTC)).total_seconds() + 1)
    except (ValueError, TypeError):
        return 60.0
