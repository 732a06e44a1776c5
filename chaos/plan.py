"""What will happen, drawn from one seed. Times are seconds from the start of the run."""

import random
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from chaos import troubles
from chaos.faults import faults
from chaos.troubles import ClockStep, Failover, Outage, Silence, Suspension

#: The instance, and its share of the accounts.
INSTANCES = {
    "mastodon": 0.2,
    "mastodon-4.1": 0.1,
    "gotosocial": 0.15,
    "akkoma": 0.1,
    "pixelfed": 0.2,
    "instagram": 0.25,
}
NEEDS_PICTURE = {"pixelfed", "instagram"}
DELIVERIES_PER_ACCOUNT = 40
#: One account in so many of an instance is connected by a second person, too, who writes so much of what is written.
SHARED, THEIRS = 4, 0.15
#: Of all posts without answers so many have a twin in the same words on the same accounts, due within so many seconds: some
#: by the same person, some by the other.
TWINS, TWIN_WITHIN_S = 0.08, 6.0
#: Posts are due from here on, so that the first worker is up and some are prepared early.
WARM_UP_S = 8.0

Deed = Literal["edit", "move", "cancel", "publish_now", "retry"]

T = TypeVar("T", Suspension, Silence, Outage, ClockStep, Failover, "PlannedDeed")

Mode = Literal["fast", "immediate"]


@dataclass(frozen=True)
class PlannedPost:
    number: int
    accounts: tuple[str, ...]
    pictures: int
    parts: int
    due_s: float
    person: int = 0
    same_as: int | None = None  # the number of another, whose words it has

    @property
    def says(self) -> int:
        """The number that stands in its words."""
        return self.number if self.same_as is None else self.same_as

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
class Plan:
    seed: int
    asked: int  # deliveries; there are a few more
    length_s: float
    accounts: dict[str, str]  # handle -> instance
    shared: frozenset[str]  # handles that both persons have connected
    posts: list[PlannedPost]
    kills: list[float]
    restarts: list[tuple[float, Mode]]
    cuts: list[float]
    freezes: list[Suspension]
    deeds: list[PlannedDeed]
    faults: list[dict[str, Any]] = field(repr=False)
    suspensions: list[Suspension] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    clock_steps: list[ClockStep] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)

    @property
    def deliveries(self) -> int:
        return sum(post.deliveries for post in self.posts)


def draw(seed: int, *, deliveries: int, kills: int, restarts: int, length_s: float) -> Plan:
    """`length_s` without the time in which the whole machine stands still: all that comes after is later by that."""
    dice = random.Random(seed)  # noqa: S311 repeatable on purpose
    accounts = _accounts(max(10, deliveries // DELIVERIES_PER_ACCOUNT))
    shared = _shared(accounts)
    posts = _posts(dice, accounts, shared, deliveries, length_s)
    last = length_s - 2
    modes: list[Mode] = ["fast", "immediate"]
    times = troubles.spread(dice, restarts, 15, last)
    instances = list(INSTANCES)
    plan = Plan(
        seed=seed,
        asked=deliveries,
        length_s=length_s,
        accounts=accounts,
        shared=shared,
        posts=posts,
        kills=troubles.spread(dice, kills, WARM_UP_S / 2, last),
        restarts=[(at, modes[number % 2]) for number, at in enumerate(times)],
        cuts=troubles.spread(dice, max(2, kills // 10), WARM_UP_S, last),
        freezes=troubles.freezes(dice, kills, WARM_UP_S, last),
        deeds=_deeds(dice, posts, last, times),
        faults=faults(),
        suspensions=troubles.suspensions(dice, deliveries, length_s, WARM_UP_S, last - 5),
        silences=troubles.silences(dice, deliveries, instances, WARM_UP_S, last),
        outages=troubles.outages(dice, deliveries, instances, WARM_UP_S, last),
        clock_steps=troubles.clock_steps(dice, deliveries, length_s, WARM_UP_S, last),
        failovers=troubles.failovers(dice, length_s),
    )
    return _around_suspensions(plan)


def _around_suspensions(plan: Plan) -> Plan:
    whole = sorted((one for one in plan.suspensions if one.everybody), key=lambda one: one.at_s)

    def later(at_s: float) -> float:
        return troubles.later(at_s, whole)

    def moved(all_of_them: list[T]) -> list[T]:
        return [replace(one, at_s=later(one.at_s)) for one in all_of_them]

    return replace(
        plan,
        length_s=later(plan.length_s),
        posts=[replace(one, due_s=later(one.due_s)) for one in plan.posts],
        kills=[later(at) for at in plan.kills],
        restarts=[(later(at), mode) for at, mode in plan.restarts],
        cuts=[later(at) for at in plan.cuts],
        freezes=moved(plan.freezes),
        deeds=moved(plan.deeds),
        suspensions=moved(plan.suspensions),
        silences=moved(plan.silences),
        outages=moved(plan.outages),
        clock_steps=moved(plan.clock_steps),
        failovers=moved(plan.failovers),
    )


def _accounts(count: int) -> dict[str, str]:
    return {
        f"{instance.replace('-', '').replace('.', '')}{number}": instance
        for instance, share in INSTANCES.items()
        for number in range(max(2, round(count * share)))
    }


def _shared(accounts: dict[str, str]) -> frozenset[str]:
    by_instance: dict[str, list[str]] = {}
    for handle, instance in accounts.items():
        by_instance.setdefault(instance, []).append(handle)
    return frozenset(handle for handles in by_instance.values() for handle in handles[::SHARED])


def _posts(
    dice: random.Random, accounts: dict[str, str], shared: frozenset[str], deliveries: int, length_s: float
) -> list[PlannedPost]:
    """Uneven on purpose: a third of all posts are due at a full five seconds, many at the same instant."""
    posts: list[PlannedPost] = []
    planned = 0
    while planned < deliveries:
        person = int(dice.random() < THEIRS)
        chosen = tuple(dice.sample(sorted(shared if person else accounts), dice.choice([1, 1, 1, 2, 3])))
        visual = bool({accounts[one] for one in chosen} & NEEDS_PICTURE)
        pictures = dice.choice([1, 1, 1, 2, 3]) if visual else dice.choice([0, 0, 0, 1, 2])
        due_s = dice.uniform(WARM_UP_S, length_s - 5)
        post = PlannedPost(
            number=len(posts),
            accounts=chosen,
            pictures=pictures,
            parts=1 if visual else dice.choice([1, 1, 1, 1, 3]),
            due_s=due_s if dice.random() > 1 / 3 else due_s // 5 * 5,
            person=person,
        )
        posts.append(post)
        is_twin = post.parts == 1 and dice.random() < TWINS
        if is_twin:
            posts.append(_twin(dice, post, len(posts), shared))
        planned += post.deliveries * (1 + is_twin)
    return posts


def _twin(dice: random.Random, post: PlannedPost, number: int, shared: frozenset[str]) -> PlannedPost:
    """By the other person where all of its accounts are shared, every other time."""
    is_theirs = shared.issuperset(post.accounts) and dice.random() < 0.5
    return replace(
        post,
        number=number,
        person=1 - post.person if is_theirs else post.person,
        due_s=max(WARM_UP_S, post.due_s + dice.choice([0.0, dice.uniform(-TWIN_WITHIN_S, TWIN_WITHIN_S)])),
        same_as=post.number,
    )


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
