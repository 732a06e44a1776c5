"""The verdict of a chaos run on made-up plans, rows and ledgers: what is wrong is seen and said."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chaos.clocks import Step
from chaos.drain import Left
from chaos.evidence import Evidence
from chaos.people import Wish, marker
from chaos.plan import Plan, PlannedPost
from chaos.rows import Row
from chaos.stage import Unheard
from chaos.verdict import Verdict
from postflow.platforms.mastodon.reconciling import UNCLEAR
from postflow.publishing.reconciling import NAMED_ANOTHER
from sandbox.core.ledger import MediaEntry, RequestEntry, StatusEntry

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
ACCOUNTS = {"bird": "mastodon", "lens": "instagram"}
#: A thread of two on Mastodon, and a picture on both.
POSTS = [
    PlannedPost(number=0, accounts=("bird",), pictures=0, parts=2, due_s=10),
    PlannedPost(number=1, accounts=("bird", "lens"), pictures=1, parts=1, due_s=20),
]


def a_plan(**changes: Any) -> Plan:
    plan = Plan(
        seed=1, asked=4, length_s=60, accounts=ACCOUNTS, shared=frozenset(), posts=POSTS, kills=[3.0],
        restarts=[], cuts=[], freezes=[], deeds=[], faults=[],
    )  # fmt: skip
    return replace(plan, **changes)


def a_row(number: int, handle: str, post: int, part: int = 0, **changes: Any) -> Row:
    due = NOON + timedelta(seconds=POSTS[post].due_s)
    row = Row(
        id=number, place=(post, part), handle=handle, platform=ACCOUNTS[handle], status="published", text=marker(post, part, 1),
        post_date=due, remote_id=f"s{number}", error_code=None, error=None, faults=0, container=f"c{number}",
        sent_at=due, struck=False, deaths=0,
    )  # fmt: skip
    return row._replace(**changes)


def a_status(row: Row, **changes: Any) -> StatusEntry:
    answers = "s1" if row.id == 2 else None
    picture = MediaEntry(
        id="p", kind="image", mime="image/jpeg", alt_text=None, sha256="x", width=1, height=1, size_bytes=1, focus=None,
        has_exif=False, has_gps=False, user_tags=[],
    )  # fmt: skip
    at = row.post_date.timestamp() + 0.02
    status = StatusEntry(
        id=f"s{row.id}", instance=row.platform, handle=row.handle, account_id="1", text=row.text, spoiler_text="",
        sensitive=False, visibility="public", language="en", in_reply_to_id=answers,
        media=[picture] if row.id > 2 else [], poll=None, idempotency_key=None, created_at=at,
        committed_ns=int(at * 1e9), hidden=None, deleted=False, url="", details={},
    )  # fmt: skip
    return replace(status, **changes)


def a_request(number: int, row: Row | None = None, **changes: Any) -> RequestEntry:
    """Every other one is delayed a little, so that the run counts as faulted."""
    faults, options = (["slow"], {"slow": {"seconds": 0.4}}) if number % 2 else ([], {})
    at = row.post_date if row else NOON
    request = RequestEntry(
        number=number, instance="instagram", method="POST", path="/v25.0/1/media_publish",
        params={"creation_id": row.container if row else "other"}, account=row.handle if row else "bird",
        idempotency_key=None, received_ns=int((at.timestamp() + 0.01) * 1e9), status=200, faults=faults,
        fault_options=options,
    )  # fmt: skip
    return replace(request, **changes)


@pytest.fixture
def evidence() -> Evidence:
    """Nothing is wrong with it."""
    rows = [a_row(1, "bird", 0), a_row(2, "bird", 0, 1), a_row(3, "bird", 1), a_row(4, "lens", 1)]
    return Evidence(
        plan=a_plan(),
        rows=rows,
        statuses=[a_status(row) for row in rows],
        requests=[a_request(number) for number in range(10)],
        began_at=NOON,
        kills=1,
    )


def complaints(evidence: Evidence) -> str:
    return "\n".join(Verdict(evidence).complaints)


def change(evidence: Evidence, number: int, **changes: Any) -> Row:
    """Another row in the place of this one."""
    evidence.rows[number - 1] = evidence.rows[number - 1]._replace(**changes)
    return evidence.rows[number - 1]


def drop_status(evidence: Evidence, number: int) -> None:
    evidence.statuses = [one for one in evidence.statuses if one.id != f"s{number}"]


def left_open(evidence: Evidence, number: int, *faults: RequestEntry, **changes: Any) -> Verdict:
    """A delivery that was left to a person, after these requests."""
    drop_status(evidence, number)
    told = {"status": "attention", "remote_id": None, "error_code": "undecidable", "error": "Who knows?", **changes}
    change(evidence, number, **told)
    evidence.requests += faults
    evidence.plan = replace(evidence.plan, posts=[*POSTS, *_many()])
    evidence.rows += [row for row, _ in _out()]
    evidence.statuses += [status for _, status in _out()]
    return Verdict(evidence)


def _many() -> list[PlannedPost]:
    """So that one delivery less does not make a run in which hardly anything is out."""
    return [PlannedPost(number=number, accounts=("bird",), pictures=1, parts=1, due_s=20) for number in range(2, 12)]


def _out() -> list[tuple[Row, StatusEntry]]:
    rows = [
        a_row(post + 10, "bird", 1, remote_id=f"s{post + 10}", text=marker(post, 0, 1), place=(post, 0))
        for post in range(2, 12)
    ]
    return [(row, a_status(row)) for row in rows]


# -- a run that went well ----------------------------------------------------------------------------------


def test_nothing_is_said_about_a_run_that_went_well(evidence: Evidence) -> None:
    verdict = Verdict(evidence)
    assert verdict.complaints == []
    assert verdict.well
    assert verdict.figures() == {
        "deliveries": 4, "kills": 1, "restarts": 0, "faulted": 0.5, "twice": 0, "lost": 0, "stuck": 0, "attention": 0,
        "doubled": 0, "incomplete": 0, "suspended": 0, "silences": 0, "outages": 0, "clock steps": 0,
        "failovers": 0, "forgotten": 0,
    }  # fmt: skip


# -- what networks and rows say ----------------------------------------------------------------------------


def test_a_status_that_is_out_twice_is_seen(evidence: Evidence) -> None:
    evidence.statuses.append(a_status(evidence.rows[2], id="s99"))
    assert "bird: post 1.0 is out 2 times: s3, s99" in complaints(evidence)
    assert Verdict(evidence).figures()["twice"] == 1


def test_a_post_that_is_told_to_be_out_and_is_not_there_is_lost(evidence: Evidence) -> None:
    drop_status(evidence, 4)
    assert "lens: post 1.0 is told to be published and is not there" in complaints(evidence)
    assert Verdict(evidence).figures()["lost"] == 1


def test_a_delivery_of_the_plan_without_a_row_is_lost(evidence: Evidence) -> None:
    del evidence.rows[3]
    drop_status(evidence, 4)
    assert "lens: post 1.0 has no row" in complaints(evidence)
    assert Verdict(evidence).figures()["lost"] == 1


def test_two_rows_for_one_part_are_seen(evidence: Evidence) -> None:
    evidence.rows.append(a_row(5, "lens", 1))
    assert "lens: post 1.0 has two rows" in complaints(evidence)


@pytest.mark.parametrize("status", ["failed", "missed", "cancelled", "ready"])
def test_what_is_told_not_to_be_out_and_is_there_is_lost(evidence: Evidence, status: str) -> None:
    change(evidence, 3, status=status, faults=12)
    assert f"bird: post 1.0 is told to be {status} and is out" in complaints(evidence)


Spoil = Callable[[StatusEntry], StatusEntry]


@pytest.mark.parametrize(
    ("number", "spoil", "said"),
    [
        (3, lambda one: replace(one, text=marker(1, 0, 2)), "out as “Chaos post 00001.0, version 2”"),
        (3, lambda one: replace(one, text="something else"), "a status without a marker"),
        (3, lambda one: replace(one, hidden="draft"), "is there and hidden: draft"),
        (3, lambda one: replace(one, committed_ns=one.committed_ns - 10**9), "went out before its date"),
        (2, lambda one: replace(one, in_reply_to_id=None), "answers None instead of s1"),
        (1, lambda one: replace(one, in_reply_to_id="s2"), "answers s2 instead of nothing"),
        (3, lambda one: replace(one, id="s77"), "is known as s3 and is s77"),
    ],
)
def test_a_status_that_is_not_as_it_should_be_is_seen(evidence: Evidence, number: int, spoil: Spoil, said: str) -> None:
    evidence.statuses[number - 1] = spoil(evidence.statuses[number - 1])
    assert said in complaints(evidence)


def test_a_picture_that_is_missing_silently_is_lost_and_one_that_was_told_is_counted(evidence: Evidence) -> None:
    evidence.statuses[2] = replace(evidence.statuses[2], media=[])
    assert "bird: post 1.0 has 0 pictures instead of 1" in complaints(evidence)
    assert (Verdict(evidence).figures()["lost"], Verdict(evidence).figures()["incomplete"]) == (1, 0)
    change(evidence, 3, error_code="incomplete")
    assert complaints(evidence) == ""
    assert (Verdict(evidence).figures()["lost"], Verdict(evidence).figures()["incomplete"]) == (0, 1)


def doubled(evidence: Evidence, instance: str, *, apart_s: float = 0, **told: Any) -> Verdict:
    """The post with a picture is out twice, and its row tells so."""
    evidence.plan = replace(evidence.plan, accounts={**ACCOUNTS, "bird": instance})
    row = change(evidence, 3, **{"told_twice": True, "pictures": 1, **told})
    first = evidence.statuses[2]
    evidence.statuses.append(a_status(row, id="s99", committed_ns=first.committed_ns + int(apart_s * 1e9)))
    return Verdict(evidence)


@pytest.mark.parametrize("instance", ["mastodon-4.1", "gotosocial", "pixelfed"])
def test_two_that_arrived_in_one_instant_where_nothing_is_locked_are_counted_when_they_were_told(
    evidence: Evidence, instance: str
) -> None:
    verdict = doubled(evidence, instance)
    assert verdict.complaints == []
    assert (verdict.figures()["twice"], verdict.figures()["doubled"]) == (0, 1)


@pytest.mark.parametrize(
    ("instance", "but"),
    [
        ("mastodon", {}),
        ("akkoma", {}),
        ("gotosocial", {"pictures": 0}),
        ("mastodon-4.1", {"told_twice": False}),
        ("mastodon-4.1", {"apart_s": 2}),
    ],
)
def test_no_other_double_is_excused(evidence: Evidence, instance: str, but: dict[str, Any]) -> None:
    assert "bird: post 1.0 is out 2 times: s3, s99" in doubled(evidence, instance, **but).complaints


def test_a_double_that_is_told_and_is_none_is_seen(evidence: Evidence) -> None:
    change(evidence, 3, told_twice=True)
    assert complaints(evidence) == "bird: post 1.0 is told to be out twice and is not"


# -- two posts in the same words ---------------------------------------------------------------------------


def with_twin(evidence: Evidence, **changes: Any) -> Row:
    """Another post says what post 1 says on the first account."""
    twin = PlannedPost(number=2, accounts=("bird",), pictures=1, parts=1, due_s=20, same_as=1)
    evidence.plan = replace(evidence.plan, posts=[*POSTS, twin])
    told = {"text": marker(1, 0, 1), "place": (2, 0), **changes}
    evidence.rows.append(a_row(5, "bird", 1, **told))
    return evidence.rows[4]


def test_each_of_two_posts_in_the_same_words_is_out_once(evidence: Evidence) -> None:
    twin = with_twin(evidence)
    assert "bird: post 2.0 is told to be published and is not there" in complaints(evidence)
    evidence.statuses.append(a_status(twin))
    assert complaints(evidence) == ""
    evidence.statuses.append(a_status(twin, id="s99"))
    assert "is out 2 times" in complaints(evidence)


def test_what_is_out_counts_for_the_one_of_two_alike_that_may_be_out(evidence: Evidence) -> None:
    with_twin(evidence, status="cancelled", remote_id=None)
    evidence.wishes = [Wish(2, "cancel", "done", held_back=(5,))]
    assert complaints(evidence) == ""


def test_only_instagram_may_leave_open_where_a_post_is(evidence: Evidence) -> None:
    change(evidence, 3, remote_id=None)
    change(evidence, 4, remote_id=None)
    assert complaints(evidence) == "bird: post 1.0 is told to be published, and where is not known"


def test_an_end_that_nothing_in_the_plan_leads_to_is_seen(evidence: Evidence) -> None:
    for number, status in enumerate(["failed", "missed", "cancelled"], start=2):
        drop_status(evidence, number)
        change(evidence, number, status=status, error_code="http_400", error="No.", faults=3)
    said = complaints(evidence)
    assert "bird: post 0.1 failed (http_400, 3 faults): No." in said
    assert "bird: post 1.0 was missed: No." in said
    assert "lens: post 1.0 is cancelled, and nobody asked for that" in said


@pytest.mark.parametrize(
    ("told", "fits"),
    [
        ({"faults": 12}, True),
        ({"error_code": "workers_end", "deaths": 10}, True),
        ({"error_code": "workers_end", "deaths": 1}, False),
        ({"error_code": "media_stuck"}, False),  # no clock was set
        ({"error_code": "ig_9004_2207052"}, False),  # nobody refused to fetch thrice
    ],
)
def test_a_failure_must_have_a_reason_that_fits(evidence: Evidence, told: dict[str, Any], fits: bool) -> None:
    drop_status(evidence, 4)
    change(evidence, 4, status="failed", error="No.", **told)
    assert ("failed (" not in complaints(evidence)) == fits


def test_a_run_in_which_everything_failed_proves_nothing(evidence: Evidence) -> None:
    evidence.statuses = []
    for number in range(1, 5):
        change(evidence, number, status="failed", error="Tried 13 times.", faults=12)
    assert complaints(evidence) == "only 0 of 4 are out"


# -- what people were told ---------------------------------------------------------------------------------


def edited(version: int, outcome: Any) -> Wish:
    return Wish(1, "edit", outcome, version, NOON + timedelta(seconds=20))


def test_a_post_that_was_edited_is_out_as_its_last_edit_says(evidence: Evidence) -> None:
    evidence.wishes = [edited(2, "done")]
    assert "kept as “Chaos post 00001.0, version 1”, which nobody was told last" in complaints(evidence)
    for number in (3, 4):
        evidence.statuses[number - 1] = a_status(change(evidence, number, text=marker(1, 0, 2)))
    assert complaints(evidence) == ""


def test_an_edit_whose_answer_was_lost_may_hold_or_not(evidence: Evidence) -> None:
    evidence.wishes = [edited(2, "unclear")]
    assert complaints(evidence) == ""
    for number in (3, 4):
        evidence.statuses[number - 1] = a_status(change(evidence, number, text=marker(1, 0, 2)))
    assert complaints(evidence) == ""


def test_a_date_that_a_person_was_told_holds(evidence: Evidence) -> None:
    evidence.wishes = [Wish(0, "move", "done", post_date=NOON + timedelta(seconds=30))]
    assert "post 0 has a date that nobody was told last" in complaints(evidence)


def test_what_a_person_was_told_to_be_cancelled_stays_so(evidence: Evidence) -> None:
    evidence.wishes = [Wish(1, "cancel", "done", held_back=(4,))]
    assert "“Chaos post 00001.0, version 1” was told to be cancelled and is published" in complaints(evidence)
    drop_status(evidence, 4)
    change(evidence, 4, status="cancelled", remote_id=None)
    assert complaints(evidence) == ""


def test_an_error_that_a_person_met_fails_the_run(evidence: Evidence) -> None:
    evidence.surprises = ["edit of post 3: DeadlockDetected()"]
    assert "a person met an error: edit of post 3: DeadlockDetected()" in complaints(evidence)


# -- what is left to a person ------------------------------------------------------------------------------


def spoilt(evidence: Evidence, kind: str, **options: Any) -> RequestEntry:
    return a_request(100, evidence.rows[3], faults=[kind], fault_options={kind: options})


def test_an_outcome_whose_answer_told_nothing_is_explained(evidence: Evidence) -> None:
    verdict = left_open(evidence, 4, spoilt(evidence, "cut_body"))
    assert [one.because for one in verdict.attention] == ["it was answered in a way that tells nothing: cut_body"]
    assert verdict.complaints == []


def test_an_outcome_whose_sender_was_struck_is_explained(evidence: Evidence) -> None:
    verdict = left_open(evidence, 4, struck=True)
    assert verdict.complaints == []


@pytest.mark.parametrize(
    ("kind", "options", "known"),
    [
        ("slow", {"seconds": 8}, True),
        ("slow", {"seconds": 0.4}, False),
        ("graph_error", {"code": 2}, True),
        ("graph_error", {"code": 9007}, False),
        ("rate_limit", {"style": "bare"}, False),
        ("status_lag", {"seconds": 30}, False),
    ],
)
def test_only_a_fault_that_leaves_the_outcome_open_explains_it(
    evidence: Evidence, kind: str, options: dict[str, Any], known: bool
) -> None:
    verdict = left_open(evidence, 4, spoilt(evidence, kind, **options))
    assert [one.because is not None for one in verdict.attention] == [known]
    assert verdict.well == known


def test_a_fault_of_an_earlier_attempt_explains_nothing(evidence: Evidence) -> None:
    before = replace(spoilt(evidence, "cut_body"), received_ns=int(NOON.timestamp() * 1e9))
    assert "is left to a person, and nothing explains it" in "".join(left_open(evidence, 4, before).complaints)


def test_of_what_nothing_explains_it_is_told_how_its_last_attempt_ended_and_what_the_network_saw_of_it(
    evidence: Evidence,
) -> None:
    row = evidence.rows[3]
    late = a_request(100, row)
    late.answered_ns = late.received_ns + 6_200_000_000
    verdict = left_open(evidence, 4, late, a_request(102, row, status=0), last_end="answer_lost, after 5.0 s")
    [said] = [one for one in verdict.complaints if "nothing explains it" in one]
    assert said.endswith("it ended with answer_lost, after 5.0 s; the network saw 200 after 6.2 s, no answer")


def test_an_outcome_that_the_engine_gave_up_for_another_reason_is_not_explained(evidence: Evidence) -> None:
    verdict = left_open(evidence, 4, spoilt(evidence, "cut_body"), error_code="stage_lost")
    assert not verdict.well


def test_no_outcome_on_mastodon_may_be_left_open(evidence: Evidence) -> None:
    verdict = left_open(evidence, 3, struck=True)
    said = (
        "bird: “Chaos post 00001.0, version 1” is left to a person, and nothing explains it: it ended with nothing; the"
    )
    assert f"{said} network saw none of it" in verdict.complaints


@pytest.mark.parametrize("steps", [[], [Step(NOON.timestamp(), -3600)]])
def test_what_looks_like_it_and_bears_another_date_may_be_left_open_once_a_clock_was_set(
    evidence: Evidence, steps: list[Step]
) -> None:
    evidence.steps = steps
    verdict = left_open(evidence, 3, error=UNCLEAR)
    assert [one.because is not None for one in verdict.attention] == [len(steps) > 0]


@pytest.mark.parametrize(("ahead_s", "sent_s", "known"), [
    (3600, 3620, True), (3600, 20, False), (-3600, -3580, True), (-3600, 20, False), (0, 20, True), (0, 3620, False),
])  # fmt: skip
def test_when_it_was_sent_is_told_by_the_clock_that_went_then(
    evidence: Evidence, ahead_s: float, sent_s: float, known: bool
) -> None:
    """A clock is set at noon, and a wire is silent while the delivery is due, 20 s later."""
    evidence.steps = [Step(NOON.timestamp(), ahead_s)]
    silence = Unheard(NOON + timedelta(seconds=18), NOON + timedelta(seconds=22), ("instagram",))
    evidence.unheard = [silence]
    verdict = left_open(evidence, 4, sent_at=NOON + timedelta(seconds=sent_s))
    assert [one.because for one in verdict.attention] == ["the wire was silent" if known else None]


def test_a_fault_of_an_earlier_attempt_explains_nothing_where_the_clock_is_ahead_since(evidence: Evidence) -> None:
    evidence.steps = [Step(NOON.timestamp() - 600, 3600)]
    before = replace(spoilt(evidence, "cut_body"), received_ns=int(NOON.timestamp() * 1e9))
    sent_at = evidence.rows[3].post_date + timedelta(hours=1)
    assert "nothing explains it" in "".join(left_open(evidence, 4, before, sent_at=sent_at).complaints)
    assert [
        one.because is not None
        for one in left_open(evidence, 4, spoilt(evidence, "cut_body"), sent_at=sent_at).attention
    ] == [True]


@pytest.mark.parametrize(("pictures", "known"), [(0, True), (1, False)])
def test_a_text_that_was_lost_on_gotosocial_may_be_left_open(evidence: Evidence, pictures: int, known: bool) -> None:
    """It knows no key; a second send with the same pictures it would refuse."""
    evidence.plan = replace(evidence.plan, accounts={**ACCOUNTS, "bird": "gotosocial"})
    row = evidence.rows[2]
    lost = a_request(
        100, row, path="/api/v1/statuses", params={"status": row.text}, faults=["drop_before"],
        fault_options={"drop_before": {}},
    )  # fmt: skip
    verdict = left_open(evidence, 3, lost, pictures=pictures)
    assert [one.because is not None for one in verdict.attention] == [known]


@pytest.mark.parametrize(("says", "forgotten", "known"), [(1, True, True), (0, True, False), (1, False, False)])
def test_what_a_look_took_for_another_one_may_be_left_open_where_the_database_had_forgotten_that_other(
    evidence: Evidence, says: int, forgotten: bool, known: bool
) -> None:
    verdict = left_open(evidence, 3, error=NAMED_ANOTHER)
    [twin, *others] = _many()
    evidence.plan = replace(evidence.plan, posts=[*POSTS, replace(twin, same_as=says), *others])
    place = next(number for number, row in enumerate(evidence.rows) if row.place == (2, 0))
    change(evidence, place + 1, forgotten=forgotten)
    assert [one.because is not None for one in verdict.attention] == [known]


# -- a run must be what was asked for ----------------------------------------------------------------------


def test_what_is_stuck_fails_the_run(evidence: Evidence) -> None:
    evidence.left = Left(deliveries=2, jobs=1)
    said = complaints(evidence)
    assert "2 deliveries are stuck" in said
    assert "1 jobs of the queue have no worker" in said
    assert Verdict(evidence).figures()["stuck"] == 2


def test_a_run_with_too_few_kills_deliveries_or_faults_is_not_well(evidence: Evidence) -> None:
    evidence.plan = a_plan(kills=[1.0, 2.0], asked=5)
    evidence.requests = [a_request(2)]
    said = complaints(evidence)
    assert "only 1 kills and 0 restarts" in said
    assert "only 4 deliveries" in said
    assert "only 0.0% of the requests were faulted" in said


def test_what_comes_in_peace_at_the_end_does_not_count_against_the_faults(evidence: Evidence) -> None:
    later = int((NOON.timestamp() + 60) * 1e9)
    evidence.requests = [a_request(1), *(a_request(2, received_ns=later) for _ in range(99))]
    assert "only 1.0% of the requests were faulted" in complaints(evidence)
    evidence.calm_at = NOON.timestamp() + 30
    assert "faulted" not in complaints(evidence)


@pytest.mark.parametrize(("asked", "enough"), [(999, True), (1000, False)])
def test_a_large_run_must_be_faulted_more_than_a_small_one(evidence: Evidence, asked: int, enough: bool) -> None:
    evidence.requests = [a_request(1), *(a_request(2) for _ in range(6))]
    evidence.plan = a_plan(asked=asked)
    assert ("of the requests were faulted" not in complaints(evidence)) == enough
