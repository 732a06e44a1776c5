"""The memory of the network: every request that came in and every status that was ever made, whatever became
of it.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.core import model
from sandbox.core.store import Store


@dataclass(slots=True, kw_only=True)
class RequestEntry:
    """One request. Times are wall-clock epoch nanoseconds; answered_ns and status are 0 when no answer was
    sent. `faults` are the kinds of the switches that took effect, with their options in `fault_options`: told once
    it is over.
    """

    number: int
    instance: str
    method: str
    path: str
    params: dict[str, Any]
    account: str | None
    idempotency_key: str | None
    received_ns: int
    answered_ns: int = 0
    status: int = 0
    faults: list[str] = field(default_factory=list)
    fault_options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def received_at(self) -> float:
        """Epoch seconds."""
        return self.received_ns / 1e9

    @property
    def answered_at(self) -> float:
        """Epoch seconds; 0 when there was no answer."""
        return self.answered_ns / 1e9


@dataclass(slots=True, frozen=True, kw_only=True)
class MediaEntry:
    """A picture or video of a status, in its place. size_bytes and sha256 are of the file as it was
    received.
    """

    id: str
    kind: str
    mime: str
    alt_text: str | None
    sha256: str
    width: int
    height: int
    size_bytes: int
    focus: tuple[float, float] | None
    has_exif: bool
    has_gps: bool
    user_tags: list[dict[str, Any]]


@dataclass(slots=True, frozen=True, kw_only=True)
class StatusEntry:
    """A status as the network holds it. `hidden`: None, draft, dropped (both never visible) or mixed (live,
    unlisted).
    """

    id: str
    instance: str
    handle: str
    account_id: str
    text: str
    spoiler_text: str
    sensitive: bool
    visibility: str
    language: str | None
    in_reply_to_id: str | None
    media: list[MediaEntry]
    poll: dict[str, Any] | None
    idempotency_key: str | None
    created_at: float
    committed_ns: int
    hidden: str | None
    deleted: bool
    url: str
    details: dict[str, Any]

    @property
    def committed_at(self) -> float:
        """Wall-clock epoch seconds at which it became real."""
        return self.committed_ns / 1e9

    @property
    def published(self) -> bool:
        """Did the public ever get to see it?"""
        return self.hidden in (None, "mixed")


class Ledger:
    """Ask it from any thread. keep_requests bounds the request log; statuses are never dropped."""

    def __init__(self, store: Store, url_of: Callable[[model.Status], str], keep_requests: int) -> None:
        self._store = store
        self._url_of = url_of
        self._requests: deque[RequestEntry] = deque(maxlen=keep_requests)
        self._lock = threading.Lock()
        self._number = 0
        self._answers: Counter[str] = Counter()

    def open(self, entry: RequestEntry) -> None:
        """A request came in."""
        with self._lock:
            self._number += 1
            entry.number = self._number
            self._requests.append(entry)

    def close(self, entry: RequestEntry, status: int, answered_ns: int) -> None:
        """It was answered (status 0: the connection was dropped)."""
        entry.status, entry.answered_ns = status, answered_ns
        with self._lock:
            self._answers[str(status)] += 1

    def age(self, seconds: int) -> None:
        """What was noted happened so much earlier."""
        with self._lock:
            for entry in self._requests:
                entry.received_ns -= seconds * 1_000_000_000
                entry.answered_ns -= seconds * 1_000_000_000 if entry.answered_ns else 0

    def forget_requests(self) -> None:
        """Empty the request log; statuses stay."""
        with self._lock:
            self._requests.clear()
            self._answers.clear()

    def requests(
        self,
        *,
        instance: Any = None,
        method: str | None = None,
        path: str | None = None,
        account: Any = None,
    ) -> list[RequestEntry]:
        """Requests in order of arrival; path is a part of the path."""
        name, who = getattr(instance, "name", instance), getattr(account, "handle", account)
        with self._lock:
            entries = list(self._requests)
        return [
            entry
            for entry in entries
            if (name is None or entry.instance == name)
            and (method is None or entry.method == method)
            and (path is None or path in entry.path)
            and (who is None or entry.account == who)
        ]

    def statuses(
        self, *, account: Any = None, instance: Any = None, text: str | None = None, published: bool = False
    ) -> list[StatusEntry]:
        """Statuses, oldest first: of an account (handle, id or credentials), an instance, containing a text.

        Deleted, dropped and draft ones are included; published=True leaves out what was never visible.
        """
        name, who = getattr(instance, "name", instance), _who(account)
        records = sorted(self._store.statuses.values(), key=lambda status: status.committed_ns)
        found = [
            self.entry(record)
            for record in records
            if (name is None or record.instance == name)
            and (text is None or text in record.text)
            and (who is None or who in (record.account_id, self._handle(record.account_id)))
        ]
        return [entry for entry in found if entry.published or not published]

    def times_published(self, marker: str, *, account: Any = None) -> int:
        """How many statuses with this text became visible, deleted ones included."""
        return len(self.statuses(text=marker, account=account, published=True))

    def repeated(self) -> dict[tuple[str, str, str], int]:
        """(instance, handle, text) of every text an account published more than once, with the count."""
        seen = Counter(
            (record.instance, self._handle(record.account_id), record.text)
            for record in list(self._store.statuses.values())
            if record.hidden in (None, "mixed")
        )
        return {key: count for key, count in seen.items() if count > 1}

    def counts(self) -> dict[str, Any]:
        """`{requests, answers: {"200": n}, statuses, published, deleted, by_instance: {name: published}}`."""
        records = list(self._store.statuses.values())
        visible = [record for record in records if record.hidden in (None, "mixed")]
        with self._lock:
            requests, answers = self._number, dict(self._answers)
        return {
            "requests": requests,
            "answers": answers,
            "statuses": len(records),
            "published": len(visible),
            "deleted": sum(record.deleted_at is not None for record in records),
            "by_instance": dict(Counter(record.instance for record in visible)),
        }

    def picture(self, sha256: str) -> bytes | None:
        """The bytes of a media file as received; None when they were let go to save memory."""
        return self._store.picture(sha256)

    def entry(self, record: model.Status) -> StatusEntry:
        """The public view of one status record."""
        tags = record.details.get("user_tags_by_media", {})
        return StatusEntry(
            id=record.id,
            instance=record.instance,
            handle=self._handle(record.account_id),
            account_id=record.account_id,
            text=record.text,
            spoiler_text=record.spoiler_text,
            sensitive=record.sensitive,
            visibility=record.visibility,
            language=record.language,
            in_reply_to_id=record.in_reply_to_id,
            media=[self._media(key, tags.get(key, [])) for key in record.media_ids],
            poll=record.poll,
            idempotency_key=record.idempotency_key,
            created_at=record.created_at,
            committed_ns=record.committed_ns,
            hidden=record.hidden,
            deleted=record.deleted_at is not None,
            url=self._url_of(record),
            details=record.details,
        )

    def _media(self, key: str, tags: list[dict[str, Any]]) -> MediaEntry:
        upload = self._store.uploads[key]
        return MediaEntry(
            id=upload.id,
            kind=upload.kind,
            mime=upload.mime,
            alt_text=upload.description,
            sha256=upload.sha256,
            width=upload.width,
            height=upload.height,
            size_bytes=upload.size_bytes,
            focus=(upload.focus[0], upload.focus[1]) if upload.focus else None,
            has_exif=upload.has_exif,
            has_gps=upload.has_gps,
            user_tags=tags,
        )

    def _handle(self, account_id: str) -> str:
        account = self._store.accounts.get(account_id)
        return account.username if account else account_id


def _who(account: Any) -> str | None:
    who = getattr(account, "account_id", None) or account
    return str(who).lstrip("@") if who is not None else None
