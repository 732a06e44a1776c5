"""What will happen, drawn from one seed. Times are seconds from the start of the run."""

import random
from dataclasses import dataclass, field
from typing import Any, Literal

#: The instance, and its share of the accounts.
INSTANCES = {"mastodon": 0.25, "mastodon-4.1": 0.1, "gotosocial": 0.1, "pixelfed": 0.25, "instagram": 0.3}
NEEDS_PICTURE = {"pixelfed", "instagram"}
DELIVERIES_PER_ACCOUNT = 40
#: Posts are due from here on, so that the first worker is up and some are prepared early.
WARM_UP_S = 8.0

#: A frozen worker stands still for longer than it may hold what it works on: request timeout and margin, 20 s in all.
FROZEN_S = (21.0, 30.0)

Deed = Literal["edit", "move", "cancel", "publish_now", "retry"]

Mode = Literal["fast", "immediate"]


@dataclass(frozen=True)
class PlannedPost:
    number: int
    accounts: tuple[str, ...]
    pictures: int
    parts: int
    due_s: float

    @property
    def deliveries(self) -> int:
        return len(self.accounts) * self.parts


@dataclass(frozen=True)
class PlannedDeed:
    """What a person does to a post; two of them at the same moment when `at_once` names a second."""

    at_s: float
    post: int
    deed: Deed
    at_once: Deed | None


@dataclass(frozen=True)
class Freeze:
    """A worker is stopped and goes on later. No kill falls on it meanwhile when it is `spared`."""

    at_s: float
    length_s: float
    spared: bool


@dataclass(frozen=True)
class Plan:
    seed: int
    asked: int  # deliveries; there are a few more
    length_s: float
    accounts: dict[str, str]  # handle -> instance
    posts: list[PlannedPost]
    kills: list[float]
    restarts: list[tuple[float, Mode]]
    cuts: list[float]
    freezes: list[Freeze]
    deeds: list[PlannedDeed]
    faults: list[dict[str, Any]] = field(repr=False)

    @property
    def deliveries(self) -> int:
        return sum(post.deliveries for post in self.posts)


def draw(seed: int, *, deliveries: int, kills: int, restarts: int, length_s: float) -> Plan:
    dice = random.Random(seed)  # noqa: S311 repeatable on purpose
    accounts = _accounts(max(10, deliveries // DELIVERIES_PER_ACCOUNT))
    posts = _posts(dice, accounts, deliveries, length_s)
    last = length_s - 2
    modes: list[Mode] = ["fast", "immediate"]
    down: list[tuple[float, Mode]] = [(at, modes[n % 2]) for n, at in enumerate(_spread(dice, restarts, 15, last))]
    return Plan(
        seed=seed,
        asked=deliveries,
        length_s=length_s,
        accounts=accounts,
        posts=posts,
        kills=_spread(dice, kills, WARM_UP_S / 2, last),
        restarts=down,
        cuts=_spread(dice, max(2, kills // 10), WARM_UP_S, last),
        freezes=[
            Freeze(at, dice.uniform(*FROZEN_S), spared=n % 4 < 3)
            for n, at in enumerate(_spread(dice, min(8, 1 + kills // 40), WARM_UP_S, last))
        ],
        deeds=_deeds(dice, posts, last, [at for at, _ in down]),
        faults=faults(),
    )


def _accounts(count: int) -> dict[str, str]:
    return {
        f"{instance.replace('-', '').replace('.', '')}{number}": instance
        for instance, share in INSTANCES.items()
        for number in range(max(2, round(count * share)))
    }


def _posts(dice: random.Random, accounts: dict[str, str], deliveries: int, length_s: float) -> list[PlannedPost]:
    """Uneven on purpose: a third of all posts are due at a full five seconds, many at the same instant."""
    posts: list[PlannedPost] = []
    planned = 0
    while planned < deliveries:
        chosen = tuple(dice.sample(sorted(accounts), dice.choice([1, 1, 1, 2, 3])))
        visual = bool({accounts[one] for one in chosen} & NEEDS_PICTURE)
        pictures = dice.choice([1, 1, 1, 2, 3]) if visual else dice.choice([0, 0, 0, 1, 2])
        due_s = dice.uniform(WARM_UP_S, length_s - 5)
        post = PlannedPost(
            number=len(posts),
            accounts=chosen,
            pictures=pictures,
            parts=1 if visual else dice.choice([1, 1, 1, 1, 3]),
            due_s=due_s if dice.random() > 1 / 3 else due_s // 5 * 5,
        )
        posts.append(post)
        planned += post.deliveries
    return posts


def _spread(dice: random.Random, count: int, first: float, last: float) -> list[float]:
    """One in each of `count` equal stretches, anywhere inside it."""
    step = (last - first) / max(count, 1)
    return [first + step * (number + dice.random()) for number in range(count)]


def _deeds(dice: random.Random, posts: list[PlannedPost], last: float, restarts: list[float]) -> list[PlannedDeed]:
    """On one post in eight, around the moment it is due: that is when a person's wish and a worker meet.

    Some fall just when the database goes down. A post has one such moment, and perhaps a retry after it.
    """
    kinds: list[Deed] = ["edit", "edit", "move", "move", "publish_now", "cancel"]
    chosen = dice.sample(posts, len(posts) // 8)
    moments = {post.number: min(last, max(WARM_UP_S, post.due_s + dice.uniform(-6, 1))) for post in chosen}
    for at in restarts:
        near = [post.number for post in posts if post.number not in moments and -1 < post.due_s - at < 9]
        moments |= {number: at + dice.uniform(-0.1, 0.3) for number in dice.sample(near, min(6, len(near)))}
    deeds = []
    for number, at_s in moments.items():
        second = dice.choice(kinds) if dice.random() < 0.4 else None
        deeds.append(PlannedDeed(at_s, number, dice.choice(kinds), second))
        if dice.random() < 0.5:
            deeds.append(PlannedDeed(min(last, at_s + dice.uniform(1, 8)), number, "retry", None))
    return sorted(deeds, key=lambda deed: deed.at_s)


def faults() -> list[dict[str, Any]]:
    """Switches of the sandbox (docs/sandbox.md), each tossing its own coin at every request it fits.

    Requests that publish suffer most, and in every way that leaves the outcome open. Those that come `slow` before
    anything is done land after the worker has given up (5 s) and looked once (2 s later), and before it looks for the
    second time (30 s later): a request that runs on beyond that is outside of what any client can promise.
    """
    commit = {"method": "POST", "path": r"/statuses$|/media_publish$"}
    fediverse = {"method": "POST", "path": r"/statuses$"}
    graph = {"method": "POST", "path": r"/media_publish$"}
    prepare = {"path": r"/media(/|$)|/instance|content_publishing_limit|/\d+$"}
    listing = {"method": "GET", "path": "/statuses"}
    return [
        {"kind": "drop_before", "probability": 0.03, **commit},
        {"kind": "drop_after_commit", "probability": 0.05, **commit},
        {"kind": "cut_body", "probability": 0.03, **commit},
        {"kind": "garbage", "probability": 0.02, **commit},
        {"kind": "answer_without_id", "probability": 0.02, **commit},
        {"kind": "status", "status": 500, "commit": True, "probability": 0.02, **commit},
        {"kind": "status", "status": 502, "commit": False, "probability": 0.03, **commit},
        {"kind": "redirect", "probability": 0.01, **commit},
        {"kind": "rate_limit", "style": "mastodon", "seconds": 4, "probability": 0.02, **fediverse},
        {"kind": "rate_limit", "style": "overload", "seconds": 3, "probability": 0.02, **fediverse},
        {"kind": "rate_limit", "style": "http_date", "seconds": 4, "probability": 0.02, **fediverse},
        {"kind": "graph_error", "code": 9007, "subcode": 2207027, "probability": 0.02, **graph},
        {"kind": "graph_error", "code": 2, "transient": True, "status": 500, "probability": 0.02, **graph},
        {"kind": "publish_error_but_live", "probability": 0.03, **graph},
        {"kind": "status_lag", "seconds": 30, "probability": 0.1, **graph},
        {"kind": "slow", "seconds": 0.4, "when": "after", "probability": 0.1, **commit},
        {"kind": "slow", "seconds": 8, "when": "after", "probability": 0.01, **commit},
        {"kind": "slow", "seconds": 12, "when": "before", "probability": 0.01, **commit},
        {"kind": "drop_before", "probability": 0.09, **prepare},
        {"kind": "drop_after_commit", "probability": 0.05, **prepare},
        {"kind": "cut_body", "probability": 0.05, **prepare},
        {"kind": "status", "status": 503, "probability": 0.07, **prepare},
        {"kind": "rate_limit", "style": "retry_after", "seconds": 2, "probability": 0.01, **prepare},
        {"kind": "slow", "seconds": 0.5, "probability": 0.18, **prepare},
        {"kind": "still_processing", "instance": "mastodon", "probability": 0.08},
        {"kind": "still_processing", "instance": "mastodon-4.1", "probability": 0.08},
        {"kind": "status", "status": 502, "probability": 0.1, **listing},
        {"kind": "drop_before", "probability": 0.06, **listing},
        {"kind": "slow", "seconds": 0.5, "probability": 0.2, **listing},
    ]
