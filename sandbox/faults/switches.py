"""Switches that make the network misbehave: which requests they hit, how often, and what they do to the
answer.

Kinds that replace or spoil the answer (one per request, the oldest matching switch wins):
  drop_before        reset the connection before doing anything
  drop_reused        the same, but only on a kept-alive connection that had served a request
  drop_after_commit  do the work, then reset without an answer
  cut_body           do the work, send half of the answer, reset
  status             answer `status` with `body` html|json|text|empty; commit=True does the work first
  rate_limit         429 in the manner of `style` (see STYLES); commit=False
  redirect           302 (or `status`) to `location`; commit=False
  garbage            do the work (commit=False: do not), answer 200 with something that is not JSON
  answer_without_id  do the work, strip the id from the JSON answer
  short_list         200 with the newest `keep` (0) entries of what there is, and nothing behind them
  graph_error        Instagram-shaped error: code, subcode, status, transient; commit=False
  held               reset without an answer, and carried out later, as if a proxy had held it: after `seconds`,
                     together with the next one like it (`with_next=True`), or when `Sandbox.let_go` says so
Kinds that bend the handling itself (any number, one of each): slow, expire_token, revoke_token, localised,
and what the networks look for: the INSIDE kinds. docs/sandbox.md describes each.
"""

import hashlib
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ANSWERS = {
    "drop_before",
    "drop_reused",
    "drop_after_commit",
    "cut_body",
    "status",
    "rate_limit",
    "redirect",
    "garbage",
    "answer_without_id",
    "graph_error",
    "held",
    "short_list",
}
TIMING = {"slow"}
INSIDE = {
    "expire_token",
    "revoke_token",
    "localised",
    "silently_drop",
    "stuck_draft",
    "drop_media",
    "change_visibility",
    "still_processing",
    "media_failed",
    "media_lost",
    "media_vanishes",
    "status_lag",
    "publish_error_but_live",
    "container_error",
    "unfetchable",
    "quota_full",
    "usage",
    "permission_missing",
}
STYLES = {
    "mastodon",
    "pixelfed",
    "gotosocial",
    "overload",
    "retry_after",
    "http_date",
    "bare",
    "html",
    "instagram",
}
# What a switch hits when nobody says: the call that matters for its kind.
_COMMIT = r"/statuses$|/media_publish$"
_WHERE = {
    "silently_drop": ("POST", r"/statuses$"),
    "stuck_draft": ("POST", r"/statuses$"),
    "drop_media": ("POST", r"/statuses$"),
    "change_visibility": ("POST", r"/statuses$"),
    "answer_without_id": ("POST", _COMMIT),
    "held": ("POST", _COMMIT),
    "still_processing": ("POST", r"/media$"),
    "media_failed": ("POST", r"/media$"),
    "short_list": ("GET", r"/statuses$|/media$|/stories$"),
    "media_vanishes": ("POST", _COMMIT),
    "media_lost": ("POST", r"/media$"),
    "container_error": ("POST", r"/media$"),
    "unfetchable": ("POST", r"/media$"),
    "status_lag": ("POST", r"/media_publish$"),
    "publish_error_but_live": ("POST", r"/media_publish$"),
    "quota_full": (None, r"/media_publish$|/content_publishing_limit$"),
}


@dataclass(slots=True, kw_only=True)
class Fault:
    """One switch. times None means until cleared; `skip` lets that many matching requests pass first."""

    id: int
    kind: str
    instance: str | None = None
    method: str | None = None
    path: str | None = None
    account: str | None = None
    times: int | None = 1
    skip: int = 0
    probability: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    hits: int = 0
    place: int = 0  # among those added since the coin was seeded

    def option(self, name: str, default: Any = None) -> Any:
        """A setting of this kind of fault, such as `status` or `seconds`."""
        return self.options.get(name, default)


class Faults:
    """All switches that are on. Safe to use from any thread."""

    def __init__(self) -> None:
        self._all: list[Fault] = []
        self._lock = threading.Lock()
        self._seed, self._places = 0, 0
        self._tosses: Counter[str] = Counter()
        self._next_id = 1

    def seed(self, number: int) -> None:
        """Make the coin of `probability` repeatable, for the switches that are added afterwards."""
        with self._lock:
            self._seed, self._places = number, 0
            self._tosses.clear()

    def add(
        self,
        kind: str,
        *,
        instance: Any = None,
        method: str | None = None,
        path: str | None = None,
        account: Any = None,
        times: int | None = 1,
        skip: int = 0,
        probability: float = 1.0,
        **options: Any,
    ) -> Fault:
        """Switch one on. instance: name or Instance; path: regex searched in the path; account: handle or
        id.
        """
        if kind not in ANSWERS | TIMING | INSIDE:
            raise ValueError(f"unknown fault {kind!r}; there are {', '.join(sorted(ANSWERS | TIMING | INSIDE))}")
        if kind == "rate_limit" and options.setdefault("style", "mastodon") not in STYLES:
            raise ValueError(f"unknown style {options['style']!r}; there are {', '.join(sorted(STYLES))}")
        if kind == "slow" and "seconds" not in options:
            raise ValueError("slow needs seconds=…")
        usual_method, usual_path = _WHERE.get(kind, (None, None))
        re.compile(path or "")
        with self._lock:
            fault = Fault(
                id=self._next_id,
                kind=kind,
                instance=getattr(instance, "name", instance),
                method=(method or (usual_method if path is None else None)),
                path=path or usual_path,
                account=getattr(account, "handle", account),
                times=times,
                skip=skip,
                probability=probability,
                options=options,
                place=self._places,
            )
            self._next_id += 1
            self._places += 1
            self._all.append(fault)
        return fault

    def clear(self, fault: Fault | int | None = None) -> None:
        """Switch one off, or all."""
        number = fault.id if isinstance(fault, Fault) else fault
        with self._lock:
            self._all = [one for one in self._all if number is not None and one.id != number]

    def all(self) -> list[Fault]:
        """Those still on, oldest first."""
        with self._lock:
            return list(self._all)

    def pick(self, instance: str, method: str, path: str, account: tuple[str, ...], reused: bool) -> dict[str, Fault]:
        """The switches this request trips, by kind (all answer-changing kinds share the key `answer`); uses
        them up.
        """
        if not self._all:
            return {}
        picked: dict[str, Fault] = {}
        with self._lock:
            for fault in list(self._all):
                group = "answer" if fault.kind in ANSWERS else fault.kind
                if group in picked or not _matches(fault, instance, method, path, account, reused):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                elif fault.probability >= 1 or self._toss(fault, method, path, account) < fault.probability:
                    picked[group] = fault
                    self._use(fault)
        return picked

    def _toss(self, fault: Fault, method: str, path: str, account: tuple[str, ...]) -> float:
        """0..1, from the seed, the switch, whose request it is and the how-manieth of its kind: whatever else arrives
        first, an account's third request of a kind meets the same fate.
        """
        coin = f"{self._seed} {fault.place} {account[:1]} {method} {path}"
        self._tosses[coin] += 1
        digest = hashlib.blake2b(f"{coin} {self._tosses[coin]}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64

    def _use(self, fault: Fault) -> None:
        fault.hits += 1
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self._all.remove(fault)


def _matches(fault: Fault, instance: str, method: str, path: str, account: tuple[str, ...], reused: bool) -> bool:
    if fault.instance not in (None, instance) or (fault.method and fault.method.upper() != method):
        return False
    if fault.account is not None and fault.account.lstrip("@") not in account:
        return False
    if fault.kind == "drop_reused" and not reused:
        return False
    return not fault.path or re.search(fault.path, path) is not None
