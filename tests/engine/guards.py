"""What each guard of each transition prevents: the stories of tests/engine/test_guards.py.

A story is a row in a state (`given`), what somebody else does then (`meanwhile`), the statement whose turn it is now, and
what must be `right` afterwards, with the guards on which that depends. Take one of them out of the statement, and it is
not right any more.

The row is number 5, of post 5 on account 1, by its date ten seconds ago. Post 1 is another, of tomorrow; account 2 is
another of the same person, account 3 the same one of the network as account 1, connected by somebody else.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg

from postflow.models import SET_ASIDE, Delivery, Receipt
from postflow.posts import deliveries
from postflow.publishing import due, rechecking, restoring, transitions

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=2)


class Row(NamedTuple):
    """What whoever acts has: connections, and the row as it was read before `meanwhile`."""

    conn: psycopg.Connection
    aconn: psycopg.AsyncConnection
    delivery: Delivery

    @property
    def id(self) -> int:
        return self.delivery.id


Act = Callable[[Row], Any]


class Story(NamedTuple):
    where: str
    why: str
    given: str
    right: str | Callable[[Any], bool]  # of the row `d` afterwards, in SQL; or of what the function returned
    guards: tuple[str, ...] = ()
    meanwhile: str = ""
    act: Act | None = None


# -- the world -------------------------------------------------------------------------------------------------

WORLD = """
    INSERT INTO users (id, email, password_hash) OVERRIDING SYSTEM VALUE VALUES
        (1, 'ada@example.org', 'x'), (2, 'bob@example.org', 'x');
    INSERT INTO accounts (id, user_id, platform, base_url, remote_id, handle, sealed) OVERRIDING SYSTEM VALUE VALUES
        (1, 1, 'mastodon', 'https://a', 'ada', '@ada', 'x'), (2, 1, 'mastodon', 'https://a', 'shop', '@shop', 'x'),
        (3, 2, 'mastodon', 'https://a', 'ada', '@ada', 'x');
    INSERT INTO posts (id, user_id, content, post_date, time_zone, revision) OVERRIDING SYSTEM VALUE VALUES
        (1, 1, '{"attachments": []}', now() + interval '1 day', 'UTC', 7);
    INSERT INTO media (id, user_id, filename, kind, mime, size_bytes, width, height, sha256) OVERRIDING SYSTEM VALUE VALUES
        (1, 1, 'sea.jpg', 'image', 'image/jpeg', 1, 1, 1, 'x');
"""
SENT = "staged = '{}', staged_at = now(), attempt_no = 1, sent_at = now(), first_sent_at = now()"
#: What a row has in each state, beside what it was made with.
STATES = {
    "scheduled": "claim = NULL",
    "preparing": "claim = 'mine'",
    "ready": "staged = '{}', staged_at = now()",
    "sending": f"claim = 'mine', {SENT}",
    "unknown": f"claim = 'mine', {SENT}",
    "published": f"wake_at = NULL, published_at = now(), error_code = 'incomplete', {SENT}",
    "failed": "wake_at = NULL, error = 'no'",
    "attention": f"wake_at = NULL, error = 'unclear', {SENT}",
    "missed": "wake_at = NULL, error = 'late'",
    "cancelled": "wake_at = NULL",
}
DUE = "now() - interval '10 seconds'"


def a_row(number: int, status: str, *also: str, account: int = 1, date: str = DUE, parent: str = "NULL") -> str:
    """A post and its delivery, both of this number. `also`: more columns, in SQL."""
    return f"""
        INSERT INTO posts (id, user_id, content, post_date, time_zone, parent_id) OVERRIDING SYSTEM VALUE
        VALUES ({number}, 1, '{{"attachments": []}}', {date}, 'UTC', {parent}) ON CONFLICT DO NOTHING;
        INSERT INTO deliveries (id, post_id, account_id, revision, status_at, wake_at) OVERRIDING SYSTEM VALUE
        VALUES ({number}, {number}, {account}, 1, now() - interval '5 minutes', now() - interval '1 minute');
    """ + change(number, f"status = '{status}'", STATES[status], *also)


def ours(status: str, *also: str, date: str = DUE, parent: str = "NULL") -> str:
    return a_row(5, status, *also, date=date, parent=parent)


def change(number: int, *columns: str) -> str:
    """The last word on a column counts."""
    set_to = dict(one.split(" = ", 1) for column in columns for one in column.split(", "))
    return (
        f"UPDATE deliveries SET {', '.join(f'{name} = {value}' for name, value in set_to.items())} WHERE id = {number};"
    )


def pictures(number: int) -> str:
    return f"INSERT INTO post_media (post_id, media_id) VALUES ({number}, 1);"


#: Refused: not a letter of the row is another.
REFUSED = "untouched 5"
HOUR = "interval '1 hour'"
WAITS = "UPDATE accounts SET {} = now() + interval '1 hour' WHERE id = 1;"
#: Another worker has it by now: the sweep took it from a silent one.
TAKEN_OVER = change(5, "claim = 'theirs'", "status_at = clock_timestamp()")
DIRTY = "faults = 3, deaths = 4, pauses = 5, looks = 6, absent_looks = 7, first_absent_at = now(), key_no = 8"
DIRTY_WORDS = "error = 'e', error_code = 'c', next_step = 'n'"
CLEAN_LOOKS = "looks = 0 AND absent_looks = 0 AND first_absent_at IS NULL"
NO_WORDS = "error IS NULL AND error_code IS NULL"
CHANGED = "status_at > now()"

# -- who acts --------------------------------------------------------------------------------------------------

RECEIPT = Receipt(remote_id="77", permalink="https://a/77", notes=("seen",), shortfall="No picture.")


def gives_back(claim: str = "mine", *, restage: bool = False, new_key: bool = False, later: bool = False) -> Act:
    options: dict[str, Any] = {"faults": 1, "pauses": 1, "restage": restage, "new_key": new_key, "detail": {}}
    at = LATER if later else None
    return lambda row: transitions.give_back(
        row.aconn, row.delivery, claim, not_before=at, sentence="Not now.", **options
    )


def claims(reply_to: str | None = None) -> Act:
    return lambda row: transitions.claim_to_send(row.aconn, row.delivery, "new", 60, "alike", reply_to, pace_s=300)


def fails(claim: str | None) -> Act:
    return lambda row: transitions.mark_failed(
        row.aconn,
        row.delivery,
        claim,
        as_of=row.delivery.status_at,
        code="no",
        sentence="It was refused.",
        next_step="Change it.",
        detail={},
    )


def sends_again(*, sure: bool, later: bool = False) -> Act:
    at = LATER if later else None
    return lambda row: transitions.send_again(
        row.aconn, row.id, "mine", not_before=at, new_key=sure, restage=sure, settled=sure, sentence="Absent."
    )


def publishes(*, lookup: bool = False, receipt: Receipt = RECEIPT) -> Act:
    return lambda row: transitions.mark_published(
        row.aconn, row.delivery, receipt, sentence="Published.", lookup=lookup
    )


def looks(*, absent: bool | None) -> Act:
    return lambda row: transitions.look_again(row.aconn, row.id, "mine", LATER, absent=absent, sentence="Not yet.")


def doubts(*, long: bool) -> Act:
    return lambda row: restoring.doubt(row.aconn, LATER, long=long)


def throttles(*, only_uploads: bool) -> Act:
    return lambda row: due.throttle(row.aconn, 1, LATER, only_uploads=only_uploads)


def saw(row: Row) -> datetime:
    return row.delivery.status_at


#: Every function with a statement that changes a row, as its callers call it.
ACTS: dict[str, Act] = {
    "transitions.claim_to_prepare": lambda row: transitions.claim_to_prepare(row.aconn, row.id, "new", 60),
    "transitions.renew": lambda row: transitions.renew(row.aconn, row.id, "mine", 60),
    "transitions.checkpoint": lambda row: transitions.checkpoint(row.aconn, row.id, "mine", {"step": 1}),
    "transitions.mark_ready": lambda row: transitions.mark_ready(row.aconn, row.id, "mine", {"step": 2}),
    "transitions.give_back": gives_back(),
    "transitions.restage": lambda row: transitions.restage(row.aconn, row.id, "Too old."),
    "transitions.claim_to_send": claims(),
    "transitions.mark_published": publishes(),
    "transitions.mark_failed": fails("mine"),
    "transitions.mark_missed": lambda row: transitions.mark_missed(
        row.aconn, row.id, "Too late.", "Move it.", as_of=saw(row)
    ),
    "transitions.mark_unknown": lambda row: transitions.mark_unknown(
        row.aconn, row.id, "mine", LATER, code="lost", sentence="Lost.", detail={}
    ),
    "transitions.claim_to_look": lambda row: transitions.claim_to_look(row.aconn, row.id, "new", 60),
    "transitions.look_again": looks(absent=True),
    "transitions.send_again": sends_again(sure=True),
    "transitions.mark_attention": lambda row: transitions.mark_attention(
        row.aconn, row.id, "mine", code="unclear", sentence="Unclear.", next_step="Look."
    ),
    "deliveries.create": lambda row: deliveries.create(row.conn, row.delivery.post_id, [2], "Scheduled."),
    "deliveries.begin_again": lambda row: deliveries.begin_again(row.conn, row.delivery.post_id, "Edited."),
    "deliveries.move": lambda row: deliveries.move(row.conn, [row.delivery.post_id], "Moved."),
    "deliveries.cancel": lambda row: deliveries.cancel(row.conn, [row.id], "Cancelled."),
    "deliveries.forget_remote": lambda row: deliveries.forget_remote(row.conn, 1),
    "deliveries.ask_again": lambda row: deliveries.ask_again(row.conn, row.id, LATER, "Again."),
    "deliveries.ask_with": lambda row: deliveries.ask_with(row.conn, 4, NOW),
    "deliveries.set_aside": lambda row: deliveries.set_aside(row.conn, row.id, "A post of its own."),
    "deliveries.acknowledge": lambda row: deliveries.acknowledge(row.conn, row.id, "Seen."),
    "deliveries.settle_published": lambda row: deliveries.settle_published(
        row.conn, row.id, "There.", remote_id="77", permalink="https://a/77"
    ),
    "deliveries.settle_absent": lambda row: deliveries.settle_absent(row.conn, row.id, LATER, "It is not there."),
    "due.postpone": lambda row: due.postpone(row.aconn, row.id, LATER, as_of=saw(row)),
    "due.hold": lambda row: due.hold(row.aconn, row.id, LATER, as_of=saw(row), code=due.ALIKE),
    "due.throttle": throttles(only_uploads=False),
    "due.add_permalink": lambda row: due.add_permalink(row.aconn, row.id, "https://a/77"),
    "due.drop_preparing": lambda row: due.drop_preparing(row.aconn, 60),
    "due.set_back": lambda row: due.set_back(row.aconn),
    "due.lose_sending": lambda row: due.lose_sending(row.aconn, LATER),
    "due.overslept": lambda row: due.overslept(row.aconn),
    "restoring.doubt": doubts(long=False),
    "rechecking.tell": lambda row: rechecking.tell(row.aconn, row.id, "It is there twice."),
}

# -- the stories -----------------------------------------------------------------------------------------------

GOES = "status = 'preparing'"
LEAVES = "status = 'sending'"
UPLOADS_WAIT = WAITS.format("uploads_throttled_until")
CUT_OFF = "UPDATE accounts SET state = 'needs_reconnect' WHERE id = 1;"

#: What both claims ask: may anything of this row be done now?
MAY_GO = [
    (
        "the network asked to wait with this post",
        {"columns": (f"not_before = now() + {HOUR}",)},
        False,
        ("(deliveries.not_before IS NULL OR …",),
    ),
    (
        "and that pause is over",
        {"columns": (f"not_before = now() - {HOUR}",)},
        True,
        ("alternative:deliveries.not_before <= clock_timestamp()",),
    ),
    (
        "its account must be connected again",
        {"also": CUT_OFF},
        False,
        ("EXISTS (SELECT FROM accounts WHERE…", "accounts.state = 'active'", "accounts.id = deliveries.account_id"),
    ),
    (
        "the network asked the account to wait",
        {"also": WAITS.format("throttled_until")},
        False,
        ("condition:coalesce(greatest(accounts.throttled_until…", "value:accounts.throttled_until"),
    ),
    (
        "the account was told to wait, and has",
        {"also": "UPDATE accounts SET throttled_until = now() WHERE id = 1;"},
        True,
        (),
    ),
]


def may_go(where: str, status: str, went: str) -> list[Story]:
    return [
        Story(
            where,
            why,
            ours(status, *has.get("columns", ("asked_at = NULL",))) + str(has.get("also", "")),
            went if goes else REFUSED,
            guards,
        )
        for why, has, goes, guards in MAY_GO
    ]


PREPARING = [
    *may_go("transitions.claim_to_prepare", "scheduled", GOES),
    Story(
        "transitions.claim_to_prepare",
        "what is scheduled is claimed, with a lease",
        ours("scheduled"),
        f"{GOES} AND {CHANGED} AND claim = 'new' AND wake_at BETWEEN now() AND now() + interval '70 seconds'",
        ("alternative:deliveries.not_before IS NULL",),
    ),
    Story(
        "transitions.claim_to_prepare",
        "the network asked to wait with uploads, of which it has one",
        ours("scheduled", "sent_at = now()") + pictures(5) + UPLOADS_WAIT,
        REFUSED,
        ("value:CASE WHEN (deliveries.status = 'scheduled'…", "alternative:deliveries.staged IS NULL"),
    ),
    Story(
        "transitions.claim_to_prepare",
        "the network asked to wait with uploads, and only some of its pictures are up",
        ours("scheduled", "staged = '{}'") + pictures(5) + UPLOADS_WAIT,
        REFUSED,
        ("alternative:deliveries.sent_at IS NULL",),
    ),
    Story(
        "transitions.claim_to_prepare",
        "the network asked to wait with uploads, and it is a text; another has a picture",
        ours("scheduled") + a_row(3, "scheduled") + pictures(3) + UPLOADS_WAIT,
        GOES,
        (
            "condition:(deliveries.status = 'scheduled' AND (deliveries.staged…",
            "condition:EXISTS (SELECT FROM post_media…",
            "post_media.post_id = deliveries.post_id",
        ),
    ),
    Story(
        "transitions.claim_to_prepare",
        "the network asked to wait with uploads, and its own were all kept",
        ours("scheduled", "staged = '{}'", "sent_at = now()") + pictures(5) + UPLOADS_WAIT,
        GOES,
        ("condition:(deliveries.staged IS NULL OR…",),
    ),
    Story(
        "transitions.renew",
        "a worker that is still at it keeps its lease",
        ours("preparing"),
        "wake_at BETWEEN now() AND now() + interval '70 seconds'",
    ),
    Story(
        "transitions.checkpoint",
        "a step is kept, and how old what was prepared first is",
        ours("preparing", f"staged_at = now() - {HOUR}"),
        f"staged = '{{\"step\": 1}}' AND staged_at = now() - {HOUR}",
    ),
    Story("transitions.checkpoint", "a first step has its age", ours("preparing"), "staged_at >= now()"),
    Story(
        "transitions.mark_ready",
        "one request remains, at the date; nobody has it, and whatever ended workers, it was not this one",
        ours("preparing", DIRTY, f"staged_at = now() - {HOUR}", date=f"now() + {HOUR}"),
        f"status = 'ready' AND {CHANGED} AND staged = '{{\"step\": 2}}' AND claim IS NULL AND deaths = 0"
        f" AND staged_at = now() - {HOUR} AND wake_at = now() + {HOUR}",
        ("p.id = deliveries.post_id",),
    ),
    Story(
        "transitions.mark_ready",
        "ready after its date: to be woken now, not in the past",
        ours("preparing"),
        "wake_at >= now() AND wake_at < now() + interval '1 minute' AND staged_at >= now()",
    ),
    Story(
        "transitions.restage",
        "what was prepared is thrown away, and it comes back at its date",
        ours("ready", date=f"now() + {HOUR}"),
        f"status = 'scheduled' AND {CHANGED} AND staged IS NULL AND staged_at IS NULL AND wake_at = now() + {HOUR}",
        ("p.id = deliveries.post_id",),
    ),
    Story(
        "transitions.restage",
        "too old and due: to be prepared now",
        ours("ready"),
        "wake_at >= now() AND wake_at < now() + interval '1 minute'",
    ),
    Story(
        "transitions.restage",
        "a container that may have been published is the only handle on what became of it",
        ours("ready", "first_sent_at = now()"),
        REFUSED,
        ("first_sent_at IS NULL",),
    ),
    *[
        Story(
            where,
            "the sweep took it from a worker that was silent, and another has claimed it",
            ours("preparing"),
            REFUSED,
            ("claim = %(claim)s",),
            meanwhile=TAKEN_OVER,
        )
        for where in ("transitions.renew", "transitions.checkpoint", "transitions.mark_ready")
    ],
]

GIVING_BACK = [
    Story(
        "transitions.give_back",
        "not now, and at the pause's end: counted, its words and looks gone, what was prepared kept",
        ours("sending", DIRTY, DIRTY_WORDS),
        f"status = 'scheduled' AND {CHANGED} AND claim IS NULL AND faults = 4 AND pauses = 6 AND staged IS NOT NULL"
        f" AND staged_at IS NOT NULL AND key_no = 8 AND not_before > now() + {HOUR} AND wake_at = not_before"
        f" AND first_sent_at IS NULL AND {CLEAN_LOOKS} AND {NO_WORDS}",
        (),
        act=gives_back(later=True),
    ),
    Story(
        "transitions.give_back",
        "what was uploaded is gone, and the key used up",
        ours("sending", DIRTY, f"not_before = now() - {HOUR}"),
        "staged IS NULL AND staged_at IS NULL AND key_no = 9 AND not_before IS NULL"
        " AND wake_at >= now() AND wake_at < now() + interval '1 minute'",
        ("p.id = deliveries.post_id",),
        act=gives_back(restage=True, new_key=True),
    ),
    Story(
        "transitions.give_back",
        "given back before its date: it comes at its date",
        ours("preparing", date=f"now() + {HOUR}"),
        f"wake_at = now() + {HOUR}",
    ),
    Story(
        "transitions.give_back",
        "an earlier request was given up as unknown and sent again: this refusal says nothing of that one",
        ours("sending", f"first_sent_at = now() - {HOUR}"),
        f"status = 'scheduled' AND first_sent_at = now() - {HOUR}",
        ("condition:first_sent_at = sent_at#1",),
    ),
    Story(
        "transitions.give_back",
        "an earlier request is in doubt, and only the preparing of the next one failed",
        ours("preparing", "sent_at = now()", "first_sent_at = now()"),
        "status = 'scheduled' AND first_sent_at = now()",
        ("condition:status <> 'preparing'",),
    ),
]


def sent_by(number: int, claim: str) -> str:
    return (
        "INSERT INTO delivery_events (delivery_id, status, sentence, detail)"
        f" VALUES ({number}, 'sending', 'Sending.', jsonb_build_object('claim', '{claim}'));"
    )


HEARD = sent_by(5, "mine")
#: Three statements in which whoever holds the claim, or whose request is the only one in doubt, has a word.
for where, act in (("transitions.give_back", gives_back()), ("transitions.mark_failed", fails("mine"))):
    nth = "#2" if where == "transitions.give_back" else ""
    GIVING_BACK += [
        Story(
            where,
            "the sweep took it from a worker that was silent, and another has claimed it",
            ours("preparing"),
            REFUSED,
            ("((status IN ('preparing', 'sending') AND claim = %(claim)s) OR …", "claim = %(claim)s"),
            meanwhile=TAKEN_OVER,
            act=act,
        ),
        Story(
            where,
            "a look has claimed it, and two requests of it are in doubt: no claim of that kind says that it was refused",
            ours("unknown", f"first_sent_at = now() - {HOUR}") + HEARD,
            REFUSED,
            ("condition:status IN ('preparing', 'sending')",),
            act=act,
        ),
        Story(
            where,
            "whoever has claimed it has a word",
            ours("preparing"),
            CHANGED,
            ("alternative:(status IN ('preparing', 'sending') AND…",),
            act=act,
        ),
        Story(
            where,
            "an answer comes after the sweep gave it up: of its only request it is known now that it was refused",
            ours("sending") + HEARD,
            "status IN ('scheduled', 'failed')",
            ("alternative:(status = 'unknown' AND attempt_no…",),
            meanwhile=change(5, "status = 'unknown'", "claim = NULL"),
            act=act,
        ),
        Story(
            where,
            "the refusal of a first request comes after it was proven absent, sent again, and that answer got lost",
            ours("sending") + HEARD,
            REFUSED,
            ("attempt_no = %(attempt_no)s",),
            meanwhile=change(5, "status = 'unknown'", "claim = NULL", "attempt_no = 2"),
            act=act,
        ),
        Story(
            where,
            "the claim did not come through, and the request of the same number that is in doubt is another worker's",
            ours("sending", "claim = 'theirs'")
            + sent_by(5, "theirs")
            + a_row(3, "sending", account=2)
            + sent_by(3, "mine"),
            REFUSED,
            ("EXISTS (SELECT FROM delivery_events…", "e.delivery_id = deliveries.id", "e.detail->>'claim' = %(claim)s"),
            meanwhile=change(5, "status = 'unknown'", "claim = NULL"),
            act=act,
        ),
        Story(
            where,
            "an earlier request may still be carried out: the refusal of the second says nothing of that",
            ours("sending", f"first_sent_at = now() - {HOUR}") + HEARD,
            REFUSED,
            (f"condition:first_sent_at = sent_at{nth}",),
            meanwhile=change(5, "status = 'unknown'", "claim = NULL"),
            act=act,
        ),
        Story(
            where,
            "the database forgot a first request; the words were edited, and a request of the same number is in doubt",
            ours("sending") + HEARD,
            REFUSED,
            ("deliveries.revision = %(revision)s",),
            meanwhile=change(5, "status = 'unknown'", "claim = NULL", "revision = 2"),
            act=act,
        ),
    ]

AS_IT_WAS = [
    Story(
        "transitions.mark_failed",
        "it is over: nobody has it, nothing wakes it, and its person reads why",
        ours("sending", DIRTY_WORDS),
        f"status = 'failed' AND {CHANGED} AND claim IS NULL AND wake_at IS NULL AND error_code = 'no'"
        " AND error = 'It was refused.' AND next_step = 'Change it.'",
    ),
    Story(
        "transitions.mark_failed",
        "no claim is needed where nobody works on it",
        ours("ready"),
        "status = 'failed'",
        ("alternative:(status IN ('scheduled', 'ready') AND status_at…",),
        act=fails(None),
    ),
    Story(
        "transitions.mark_failed",
        "its person has moved it while a worker found that it cannot go",
        ours("ready"),
        REFUSED,
        ("status_at = %(as_of)s",),
        meanwhile=change(5, "status_at = clock_timestamp()"),
        act=fails(None),
    ),
    Story(
        "transitions.mark_failed",
        "an intent that did not come through: whoever took it back leaves the row to the next",
        ours("ready"),
        REFUSED,
        ("%(claim)s::text IS NULL",),
    ),
    Story(
        "transitions.mark_missed",
        "it is over: nothing wakes it, and its person reads why",
        ours("ready", DIRTY_WORDS),
        f"status = 'missed' AND {CHANGED} AND wake_at IS NULL AND error_code = 'missed' AND error = 'Too late.'"
        " AND next_step = 'Move it.'",
    ),
    Story(
        "due.postpone",
        "it wants to be woken then",
        ours("ready"),
        f"wake_at > now() + {HOUR}",
    ),
    Story(
        "due.hold",
        "it wants to be woken then, and stands in nobody's way",
        ours("ready"),
        f"wake_at > now() + {HOUR} AND not_before = wake_at AND error_code = 'alike'",
    ),
    *[
        Story(
            where,
            "its person has moved it, or asked again, since the worker read it",
            ours("ready"),
            REFUSED,
            ("status_at = %(as_of)s",),
            meanwhile=change(5, "status_at = clock_timestamp()"),
        )
        for where in ("transitions.mark_missed", "due.postpone", "due.hold")
    ],
]

LATE, AN_HOUR_AGO = f"now() - {HOUR}", f"sent_at = now() - {HOUR}"
SEND = "transitions.claim_to_send"
SENDING = [
    *may_go(SEND, "ready", LEAVES),
    Story(
        SEND,
        "the intent: which request, of what, since when it may be out, and until when it may take",
        ours("ready", DIRTY),
        f"{LEAVES} AND {CHANGED} AND claim = 'new' AND attempt_no = 1 AND sent_at >= now()"
        f" AND likeness = 'alike' AND first_sent_at = sent_at AND {CLEAN_LOOKS}"
        " AND wake_at BETWEEN now() AND now() + interval '70 seconds'",
        ("alternative:deliveries.not_before IS NULL", "alternative:p.parent_id IS NULL"),
    ),
    Story(
        SEND,
        "an earlier request may still be carried out: a look must go back as far",
        ours("ready", "attempt_no = 3", f"first_sent_at = now() - {HOUR}"),
        f"{LEAVES} AND attempt_no = 4 AND first_sent_at = now() - {HOUR}",
        ("value:first_sent_at",),
    ),
    Story(
        SEND,
        "its date is not there; that of another is",
        ours("ready", date=f"now() + {HOUR}") + f"UPDATE posts SET post_date = {DUE}, revision = 1 WHERE id = 1;",
        REFUSED,
        ("p.id = deliveries.post_id", "p.post_date <= clock_timestamp()"),
    ),
    Story(
        SEND,
        "its person has moved it since the worker read it, and what it was gathered with is old",
        ours("ready"),
        REFUSED,
        ("deliveries.status_at = %(status_at)s",),
        meanwhile=change(5, "status_at = clock_timestamp()"),
    ),
    Story(
        SEND,
        "the post has other words than the ones that were prepared",
        ours("ready") + "UPDATE posts SET revision = 2 WHERE id = 5;",
        REFUSED,
        ("p.revision = %(revision)s",),
    ),
    Story(
        SEND,
        "the database was restored, and may have forgotten that this was sent",
        ours("ready") + "UPDATE lineage SET mark = 'another';",
        REFUSED,
        ("EXISTS (SELECT FROM lineage…", "mark = postflow_lineage()"),
    ),
    # A thread.
    Story(
        SEND,
        "the part before it has failed",
        a_row(4, "failed") + ours("ready", parent="4"),
        REFUSED,
        ("(p.parent_id IS NULL OR EXISTS…",),
    ),
    Story(
        SEND,
        "the part before it is out",
        a_row(4, "published", "remote_id = '77'") + ours("ready", parent="4"),
        LEAVES,
        ("alternative:EXISTS (SELECT FROM deliveries before…#1",),
        act=claims("77"),
    ),
    Story(
        SEND,
        "the part before it has failed; another post is out",
        a_row(3, "published", "remote_id = '77'") + a_row(4, "failed") + ours("ready", parent="4"),
        REFUSED,
        ("before.post_id = p.parent_id",),
        act=claims("77"),
    ),
    Story(
        SEND,
        "the part before it is out on another account only",
        a_row(4, "published", "remote_id = '77'", account=2) + ours("ready", parent="4"),
        REFUSED,
        ("before.account_id = deliveries.account_id",),
        act=claims("77"),
    ),
    Story(
        SEND,
        "gathered before the part before it went out: it would leave without its parent",
        a_row(4, "published", "remote_id = '77'") + ours("ready", parent="4"),
        REFUSED,
        ("before.remote_id = %(reply_to)s",),
    ),
    # One at a time.
    Story(
        SEND,
        "another of its account is being sent: the index would refuse a second one, too, but as an error",
        a_row(3, "sending") + ours("ready"),
        REFUSED,
        ("NOT EXISTS (SELECT FROM deliveries other…",),
    ),
    Story(
        SEND,
        "one of another account is being sent",
        a_row(3, "sending", account=2) + ours("ready"),
        LEAVES,
        ("other.account_id = deliveries.account_id",),
    ),
    Story(
        SEND,
        "another of its account waits for tomorrow",
        a_row(3, "scheduled", date="now() + interval '1 day'") + ours("ready"),
        LEAVES,
        ("other.status = 'sending'",),
    ),
    # Late ones keep their pace.
    Story(
        SEND,
        "late, and another late one has just gone out",
        a_row(3, "published", date=LATE) + ours("ready", date=LATE),
        REFUSED,
        ("condition:(greatest(p.post_date, deliveries.asked_at) > clock_timestamp()…", "value:op.post_date#1"),
    ),
    Story(
        SEND,
        "on time: late ones that go out keep it from nothing",
        a_row(3, "published", date=LATE) + ours("ready"),
        LEAVES,
        ("alternative:greatest(p.post_date, deliveries.asked_at) > clock_timestamp()…", "value:p.post_date#1"),
    ),
    Story(
        SEND,
        "asked for again just now: on time, whatever its date was",
        a_row(3, "published", date=LATE) + ours("ready", "asked_at = now()", date=LATE),
        LEAVES,
        ("value:deliveries.asked_at#1",),
    ),
    Story(
        SEND,
        "late, and no other late one has just gone out",
        ours("ready", date=LATE),
        LEAVES,
        ("alternative:NOT EXISTS (SELECT FROM deliveries o JOIN posts op…",),
    ),
    Story(
        SEND,
        "late, and another has just gone out on time",
        a_row(3, "published") + ours("ready", date=LATE),
        LEAVES,
        ("op.id = o.post_id#1", "o.sent_at > greatest(op.post_date, o.asked_at)…"),
    ),
    Story(
        SEND,
        "late, and another has just gone out that was asked for again just before",
        a_row(3, "published", "asked_at = now()", date=LATE) + ours("ready", date=LATE),
        LEAVES,
        ("value:o.asked_at#1",),
    ),
    Story(
        SEND,
        "late, and a late one has just gone out on another account",
        a_row(3, "published", date=LATE, account=2) + ours("ready", date=LATE),
        LEAVES,
        ("o.account_id = deliveries.account_id#1",),
    ),
    Story(
        SEND,
        "late, and the last late one went out longer ago than the pace",
        a_row(3, "published", "sent_at = now() - interval '10 minutes'", date=LATE) + ours("ready", date=LATE),
        LEAVES,
        ("o.sent_at > now() - make_interval(secs => %(pace_s)s)",),
    ),
    Story(
        SEND,
        "late, and a late one went out before the clock was set back by an hour",
        a_row(3, "published", f"sent_at = now() + {HOUR}", date=LATE) + ours("ready", date=LATE),
        LEAVES,
        ("o.sent_at <= clock_timestamp()",),
    ),
    # Of one instant, the one made first goes first.
    Story(
        SEND,
        "one of the same instant was made earlier, and is ready",
        a_row(3, "ready") + ours("ready"),
        REFUSED,
        (
            "NOT EXISTS ( SELECT o.id…",
            "alternative:o.status = 'ready'",
            "alternative:o.wake_at <= clock_timestamp()",
            "alternative:o.not_before IS NULL",
            "alternative:op.parent_id IS NULL",
        ),
    ),
    Story(
        SEND,
        "both were asked for again in the same instant",
        a_row(3, "ready", f"asked_at = {DUE}", date=LATE)
        + ours("ready", f"asked_at = {DUE}", date=f"now() - 2 * {HOUR}"),
        REFUSED,
        ("value:o.asked_at#2", "value:deliveries.asked_at#2"),
    ),
    Story(
        SEND,
        "of the two dates it is the later one that counts, of each",
        a_row(3, "ready", f"asked_at = {LATE}") + ours("ready", f"asked_at = now() - 2 * {HOUR}"),
        REFUSED,
        ("value:op.post_date#2", "value:p.post_date#2"),
    ),
    Story(
        SEND,
        "one of another instant was made earlier, and is ready",
        a_row(3, "ready", date="now() - interval '20 seconds'") + ours("ready"),
        LEAVES,
        ("op.id = o.post_id#2", "greatest(op.post_date, o.asked_at) = greatest(p.post_date, deliveries.asked_at)"),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, for another account",
        a_row(3, "ready", account=2) + ours("ready"),
        LEAVES,
        ("o.account_id = deliveries.account_id#2",),
    ),
    Story(
        SEND,
        "one of the same instant was made later",
        ours("ready") + a_row(6, "ready"),
        LEAVES,
        ("o.id < deliveries.id",),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, and has never been ready: its pictures are not up, one of them is",
        a_row(3, "preparing", "staged = '{}'") + ours("ready"),
        LEAVES,
        ("condition:(o.status = 'ready' OR (o.staged…", "condition:o.sent_at IS NOT NULL"),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, and is to be prepared anew",
        a_row(3, "scheduled", "sent_at = now()") + ours("ready"),
        LEAVES,
        ("condition:o.staged IS NOT NULL",),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, was ready and sent, and its pause is over",
        a_row(3, "scheduled", SENT, f"not_before = now() - {HOUR}") + ours("ready"),
        REFUSED,
        ("alternative:(o.staged IS NOT NULL AND o.sent_at…", "alternative:o.not_before <= clock_timestamp()"),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, and sleeps: it was put off, or the network still works on it",
        a_row(3, "ready", f"wake_at = now() + {HOUR}") + ours("ready"),
        LEAVES,
        ("condition:(o.status = 'preparing' OR o.wake_at…",),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, was sent, and is at hand again in a moment",
        a_row(3, "preparing", SENT, "wake_at = now() + interval '1 minute'") + ours("ready"),
        REFUSED,
        ("alternative:o.status = 'preparing'",),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, and is in doubt: a look at it may take minutes",
        a_row(3, "unknown") + ours("ready"),
        LEAVES,
        ("o.status IN ('scheduled', 'preparing', 'ready')",),
    ),
    Story(
        SEND,
        "one that was asked for in the same instant was made earlier; its date was lost with an hour of the clock",
        a_row(3, "ready", f"asked_at = now() + {HOUR}", date="now() + interval '30 minutes'")
        + ours("ready", f"asked_at = now() + {HOUR}"),
        LEAVES,
        ("op.post_date <= clock_timestamp()",),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, and has a pause of its own",
        a_row(3, "ready", f"not_before = now() + {HOUR}") + ours("ready"),
        LEAVES,
        ("condition:(o.not_before IS NULL OR o.not_before…",),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, and answers a part that failed; another post is out",
        a_row(2, "failed", date=LATE) + a_row(1, "published") + a_row(3, "ready", parent="2") + ours("ready"),
        LEAVES,
        (
            "condition:(op.parent_id IS NULL OR EXISTS…",
            "before.post_id = op.parent_id",
            "before.status = 'published'#2",
        ),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, and answers a part that is out on another account only",
        a_row(2, "published", date=LATE, account=2) + a_row(3, "ready", parent="2") + ours("ready"),
        LEAVES,
        ("before.account_id = o.account_id",),
    ),
    Story(
        SEND,
        "one of the same instant was made earlier, and answers a part that is out",
        a_row(2, "published", date=LATE) + a_row(3, "ready", parent="2") + ours("ready"),
        REFUSED,
        ("alternative:EXISTS (SELECT FROM deliveries before…#2",),
    ),
    Story(
        SEND,
        "uploads wait: one with a picture that was made earlier is ready, and waits for nothing",
        a_row(3, "ready") + pictures(3) + ours("ready") + UPLOADS_WAIT,
        REFUSED,
        ("condition:(o.status = 'scheduled' AND (o.staged…", "condition:o.status = 'scheduled'"),
    ),
    Story(
        SEND,
        "uploads wait: one with a picture that was made earlier was ready, and has nothing left to upload",
        a_row(3, "scheduled", SENT) + pictures(3) + ours("ready") + UPLOADS_WAIT,
        REFUSED,
        ("condition:(o.staged IS NULL OR o.sent_at IS NULL)",),
    ),
    Story(
        SEND,
        "uploads wait: what is ready has nothing left to upload",
        ours("ready") + pictures(5) + UPLOADS_WAIT,
        LEAVES,
        ("condition:(deliveries.status = 'scheduled' AND (deliveries.staged…", "deliveries.status = 'scheduled'"),
    ),
]

OUT = [
    Story(
        "transitions.mark_published",
        "it is out, where, and since when; what is missing there; nobody has it, nothing wakes it",
        ours("sending", AN_HOUR_AGO),
        f"status = 'published' AND {CHANGED} AND claim IS NULL AND wake_at IS NULL AND published_at >= now()"
        " AND remote_id = '77' AND permalink = 'https://a/77' AND notes = ARRAY['seen'] AND error = 'No picture.'"
        " AND error_code = 'incomplete' AND next_step IS NOT NULL",
        ("alternative:(attempt_no <= %(attempt_no)s AND status…",),
    ),
    Story(
        "transitions.mark_published",
        "found by a look: it went out when it was sent",
        ours("unknown", AN_HOUR_AGO, DIRTY_WORDS),
        f"published_at = now() - {HOUR} AND {NO_WORDS} AND next_step IS NULL",
        (),
        act=publishes(lookup=True, receipt=Receipt(remote_id="77", permalink=None)),
    ),
    Story(
        "transitions.mark_published",
        "a look finds it just after its person said that it is not there: when it was sent is not known any more",
        ours("unknown"),
        "status = 'published' AND published_at >= now()",
        (),
        meanwhile=change(5, "status = 'scheduled'", "claim = NULL", "sent_at = NULL", "first_sent_at = NULL"),
        act=publishes(lookup=True),
    ),
    Story(
        "transitions.mark_published",
        "the first request is answered while the second is in doubt: it is out, whichever it was",
        ours("unknown"),
        "status = 'published'",
        ("alternative:status = 'unknown'",),
        meanwhile=change(5, "attempt_no = 2"),
    ),
    Story(
        "transitions.mark_published",
        "a late answer, after its person edited the words: an earlier request is out, and the row is to other words",
        ours("sending"),
        REFUSED,
        ("revision = %(revision)s",),
        meanwhile=change(5, "status = 'scheduled'", "claim = NULL", "revision = 2"),
    ),
    Story(
        "transitions.mark_published",
        "a late answer, while a newer request is under way, whose own answer will tell",
        ours("sending"),
        REFUSED,
        ("condition:(status = 'unknown' OR (attempt_no…", "condition:attempt_no <= %(attempt_no)s"),
        meanwhile=change(5, "attempt_no = 2"),
    ),
    Story(
        "due.add_permalink",
        "its link is found a moment later",
        ours("published"),
        "permalink = 'https://a/77'",
    ),
    Story(
        "rechecking.tell",
        "its person reads it",
        ours("published", "notes = ARRAY['seen']"),
        "notes = ARRAY['seen', 'It is there twice.'] AND error_code = 'incomplete'",
    ),
    Story(
        "rechecking.tell",
        "and finds it among what needs attention",
        ours("published", "error_code = NULL"),
        "error_code = 'out_twice'",
    ),
]

IN_DOUBT = [
    Story(
        "transitions.mark_unknown",
        "the answer got lost: nobody has it, and a look comes then",
        ours("sending"),
        f"status = 'unknown' AND {CHANGED} AND claim IS NULL AND wake_at > now() + {HOUR} AND error_code = 'lost'"
        " AND error = 'Lost.'",
    ),
    Story(
        "transitions.claim_to_look",
        "one looks, for as long as its lease",
        ours("unknown"),
        "claim = 'new' AND wake_at BETWEEN now() AND now() + interval '70 seconds'",
    ),
    Story(
        "transitions.claim_to_look",
        "another looks already, or no look tells anything yet",
        ours("unknown", "wake_at = now() + interval '1 minute'"),
        REFUSED,
        ("wake_at <= clock_timestamp()",),
    ),
    Story(
        "transitions.look_again",
        "it was not seen for the first time: since when, and how often",
        ours("unknown"),
        f"claim IS NULL AND wake_at > now() + {HOUR} AND looks = 1 AND absent_looks = 1 AND first_absent_at >= now()",
    ),
    Story(
        "transitions.look_again",
        "it was not seen again",
        ours("unknown", "absent_looks = 1", f"first_absent_at = now() - {HOUR}"),
        f"absent_looks = 2 AND first_absent_at = now() - {HOUR}",
    ),
    Story(
        "transitions.look_again",
        "a sign of it was seen: absence is to be proven anew",
        ours("unknown", "absent_looks = 1", f"first_absent_at = now() - {HOUR}"),
        "looks = 1 AND absent_looks = 0 AND first_absent_at IS NULL",
        act=looks(absent=False),
    ),
    Story(
        "transitions.look_again",
        "it could not be looked: that is no absence, and no sign",
        ours("unknown", "absent_looks = 1", f"first_absent_at = now() - {HOUR}"),
        f"absent_looks = 1 AND first_absent_at = now() - {HOUR}",
        act=looks(absent=None),
    ),
    Story(
        "transitions.send_again",
        "proven absent for good: with a new key and uploads, as if nothing had been sent, and counted",
        ours("unknown", DIRTY, DIRTY_WORDS, f"not_before = now() - {HOUR}"),
        f"status = 'scheduled' AND {CHANGED} AND claim IS NULL AND faults = 4 AND wake_at >= now()"
        " AND wake_at < now() + interval '1 minute' AND not_before IS NULL AND key_no = 9 AND first_sent_at IS NULL"
        f" AND staged IS NULL AND staged_at IS NULL AND {CLEAN_LOOKS} AND {NO_WORDS}",
    ),
    Story(
        "transitions.send_again",
        "a repeat cannot double it: with the same key, and since when it may be out",
        ours("unknown", DIRTY),
        "key_no = 8 AND first_sent_at IS NOT NULL AND staged IS NOT NULL AND staged_at IS NOT NULL"
        f" AND not_before > now() + {HOUR} AND wake_at = not_before",
        act=sends_again(sure=False, later=True),
    ),
    Story(
        "transitions.mark_attention",
        "a person has to tell: nobody has it, nothing wakes it, and they read why",
        ours("unknown"),
        f"status = 'attention' AND {CHANGED} AND claim IS NULL AND wake_at IS NULL AND error_code = 'unclear'"
        " AND error = 'Unclear.' AND next_step = 'Look.'",
    ),
    Story(
        "transitions.mark_unknown",
        "the sweep gave its request up, it was proven absent, and another worker sends it",
        ours("sending"),
        REFUSED,
        ("claim = %(claim)s",),
        meanwhile=TAKEN_OVER,
    ),
    *[
        Story(
            where,
            "its look took longer than its lease, and another looks by now",
            ours("unknown"),
            REFUSED,
            ("claim = %(claim)s",),
            meanwhile=TAKEN_OVER,
        )
        for where in ("transitions.look_again", "transitions.send_again", "transitions.mark_attention")
    ],
]

ASKED_AGAIN = (
    f"status = 'scheduled' AND {CHANGED} AND asked_at IS NOT NULL AND not_before IS NULL AND faults = 0 AND deaths = 0"
    " AND pauses = 0 AND staged IS NULL AND staged_at IS NULL AND key_no = 9 AND first_sent_at IS NULL AND sent_at IS NULL"
    f" AND {CLEAN_LOOKS} AND {NO_WORDS} AND next_step IS NULL"
)
PAUSED = f"not_before = now() + {HOUR}"
BY_A_PERSON = [
    Story(
        "deliveries.create",
        "another post is scheduled nowhere by it",
        ours("ready"),
        "one row of another",
        ("p.id = %(post_id)s",),
    ),
    Story(
        "deliveries.begin_again",
        "edited: what was prepared belongs to the old text, and so do its budgets and its pause",
        ours("preparing", DIRTY, SENT, PAUSED) + "UPDATE posts SET revision = 2 WHERE id = 5;",
        f"status = 'scheduled' AND {CHANGED} AND staged IS NULL AND staged_at IS NULL AND claim IS NULL AND revision = 2"
        " AND not_before IS NULL AND first_sent_at IS NULL AND faults = 0 AND deaths = 0 AND pauses = 0"
        f" AND wake_at = {DUE}",
    ),
    Story(
        "deliveries.begin_again",
        "another post stays as it is",
        ours("ready") + a_row(6, "ready"),
        "untouched 6",
        ("p.id = deliveries.post_id", "p.id = %(post_id)s"),
    ),
    Story(
        "deliveries.move",
        "moved: whoever prepares it has to look anew; its pause, its lateness and its budgets begin anew",
        ours("preparing", DIRTY, DIRTY_WORDS, PAUSED, "asked_at = now()"),
        f"status = 'scheduled' AND {CHANGED} AND claim IS NULL AND not_before IS NULL AND asked_at IS NULL AND faults = 0"
        f" AND deaths = 0 AND pauses = 0 AND {NO_WORDS} AND next_step IS NULL AND wake_at = {DUE}",
    ),
    Story("deliveries.move", "what is prepared stays good", ours("ready"), "status = 'ready' AND staged IS NOT NULL"),
    Story("deliveries.move", "missed, and moved: it goes again", ours("missed"), "status = 'scheduled'"),
    Story(
        "deliveries.move",
        "another post stays as it is",
        ours("ready") + a_row(6, "ready"),
        "untouched 6",
        ("p.id = deliveries.post_id", "p.id = ANY(%(post_ids)s)"),
    ),
    Story(
        "deliveries.cancel",
        "cancelled: whoever prepares it stops, and nothing wakes it",
        ours("preparing"),
        f"status = 'cancelled' AND {CHANGED} AND claim IS NULL AND wake_at IS NULL",
    ),
    Story(
        "deliveries.forget_remote",
        "the account's data goes: where it is out, and what was uploaded",
        ours("published", "remote_id = '77'", "permalink = 'x'"),
        "remote_id IS NULL AND permalink IS NULL AND staged IS NULL AND staged_at IS NULL",
    ),
    Story(
        "deliveries.forget_remote",
        "another account's stays",
        ours("published") + a_row(6, "published", account=2),
        "untouched 6",
        ("account_id = %(id)s",),
    ),
    Story(
        "deliveries.ask_again",
        "asked again: on time from now on, with fresh budgets, uploads and key; nothing of it is out",
        ours("failed", DIRTY, DIRTY_WORDS, SENT, PAUSED),
        f"{ASKED_AGAIN} AND wake_at = asked_at",
        ("p.id = deliveries.post_id",),
    ),
    Story(
        "deliveries.ask_again",
        "edited since it failed: it goes in the words that the post has now",
        ours("failed") + "UPDATE posts SET revision = 2 WHERE id = 5;",
        "revision = 2",
    ),
    Story(
        "deliveries.ask_again",
        "cancelled, and asked again before its date: it goes at its date",
        ours("cancelled", date=f"now() + 9 * {HOUR}"),
        f"wake_at = now() + 9 * {HOUR}",
    ),
    Story(
        "deliveries.ask_with",
        "the parts behind it are late by as much, and what a worker has read of them is old",
        a_row(4, "failed") + ours("ready", parent="4"),
        f"{CHANGED} AND asked_at IS NOT NULL",
    ),
    Story(
        "deliveries.ask_with",
        "so is the part behind that",
        a_row(3, "failed") + a_row(4, "failed", parent="3") + ours("ready", parent="4"),
        f"{CHANGED} AND asked_at IS NOT NULL",
        act=lambda row: deliveries.ask_with(row.conn, 3, NOW),
    ),
    Story(
        "deliveries.ask_with",
        "another post is not behind it, nor what is behind another",
        a_row(4, "failed") + ours("ready", parent="4") + a_row(3, "failed") + a_row(6, "ready", parent="3"),
        "untouched 6",
        ("p.parent_id = d.post_id", "d.id = %(id)s", "p.parent_id = b.id", "deliveries.post_id = b.id"),
    ),
    Story(
        "deliveries.ask_with",
        "on another account it goes its own way",
        a_row(4, "failed") + ours("ready", parent="4") + change(5, "account_id = 2"),
        REFUSED,
        ("deliveries.account_id = b.account_id",),
    ),
    Story(
        "deliveries.set_aside",
        "it is a post of its own now: never sent from here, and no trouble any more",
        ours("missed", DIRTY_WORDS),
        f"status = 'cancelled' AND {CHANGED} AND error IS NULL AND error_code = '{SET_ASIDE}' AND next_step IS NULL",
    ),
    Story(
        "deliveries.acknowledge",
        "its person has seen what is missing there: it stays among its notes",
        ours("published", DIRTY_WORDS, "notes = ARRAY['seen']"),
        f"{NO_WORDS} AND next_step IS NULL AND notes = ARRAY['seen', 'e']",
        ("condition:error IS NULL",),
    ),
    Story(
        "deliveries.acknowledge",
        "what failed is not out, and keeps its reason",
        ours("failed", "error_code = 'no'"),
        REFUSED,
        ("status = 'published'",),
    ),
    Story("deliveries.acknowledge", "nothing is missing in words", ours("published"), "notes = '{}'"),
    Story(
        "deliveries.acknowledge",
        "in a second window it was acknowledged before: nothing is told twice",
        ours("published"),
        "NOT EXISTS (SELECT FROM delivery_events)",
        ("error_code IS NOT NULL",),
        meanwhile=change(5, "error_code = NULL"),
    ),
    Story(
        "deliveries.settle_published",
        "its person saw it there, and where",
        ours("attention", AN_HOUR_AGO, DIRTY_WORDS),
        f"status = 'published' AND {CHANGED} AND published_at = now() - {HOUR} AND remote_id = '77'"
        f" AND permalink = 'https://a/77' AND {NO_WORDS} AND next_step IS NULL",
    ),
    Story(
        "deliveries.settle_published",
        "of what was never noted as sent, too",
        ours("attention", "sent_at = NULL"),
        "published_at IS NOT NULL",
    ),
    Story(
        "deliveries.settle_absent",
        "its person saw that it is not there: anew, with a new key, though the burnt one was of the same words",
        ours("attention", DIRTY, DIRTY_WORDS, PAUSED),
        f"{ASKED_AGAIN} AND wake_at = asked_at",
    ),
]

SWEPT = [
    Story(
        "due.throttle",
        "the account waits, and no less long than it was told before",
        ours("ready"),
        "(SELECT throttled_until > now() + interval '1 hour' AND uploads_throttled_until IS NULL FROM accounts WHERE id = 1)",
        ("condition:%(only_uploads)s",),
    ),
    Story(
        "due.throttle",
        "only its uploads wait",
        ours("ready"),
        "(SELECT uploads_throttled_until > now() + interval '1 hour' AND throttled_until IS NULL FROM accounts WHERE id = 1)",
        act=throttles(only_uploads=True),
    ),
    Story(
        "due.throttle",
        "another account waits for nothing",
        ours("ready"),
        "(SELECT throttled_until IS NULL FROM accounts WHERE id = 2)",
        ("id = %(id)s",),
    ),
    *[
        Story(
            "due.throttle",
            "it was told to wait for longer before",
            ours("ready") + f"UPDATE accounts SET {column} = now() + interval '1 day' WHERE id = 1;",
            f"(SELECT {column} = now() + interval '1 day' FROM accounts WHERE id = 1)",
            act=throttles(only_uploads=column != "throttled_until"),
        )
        for column in ("throttled_until", "uploads_throttled_until")
    ],
    Story(
        "due.drop_preparing",
        "its worker is silent: another goes on, from its checkpoints, and that one is counted",
        ours("preparing", DIRTY, "staged = '{}'"),
        f"status = 'scheduled' AND {CHANGED} AND claim IS NULL AND deaths = 5 AND staged IS NOT NULL"
        " AND wake_at >= now() AND wake_at < now() + interval '1 minute'",
        ("p.id = deliveries.post_id", "alternative:wake_at < clock_timestamp()"),
    ),
    Story(
        "due.drop_preparing",
        "its worker is silent, minutes before its date",
        ours("preparing", date=f"now() + {HOUR}"),
        f"wake_at = now() + {HOUR}",
    ),
    Story(
        "due.drop_preparing",
        "its worker is at it",
        ours("preparing", "wake_at = now() + interval '30 seconds'"),
        REFUSED,
        ("(wake_at < clock_timestamp() OR…", "deliveries.id IN (SELECT…"),
    ),
    Story(
        "due.drop_preparing",
        "its lease ends later than any lease does: the clock was set back",
        ours("preparing", f"wake_at = now() + {HOUR}"),
        "status = 'scheduled'",
        ("alternative:wake_at > clock_timestamp()…",),
    ),
    Story(
        "due.lose_sending",
        "its sender is gone: nobody has it, and a look comes then",
        ours("sending"),
        f"status = 'unknown' AND {CHANGED} AND claim IS NULL AND wake_at > now() + {HOUR} AND error_code = 'worker_gone'"
        " AND error IS NOT NULL",
    ),
    Story(
        "due.lose_sending",
        "its sender has a lease",
        ours("sending", "wake_at = now() + interval '30 seconds'"),
        REFUSED,
        ("wake_at < clock_timestamp()", "id IN (SELECT…"),
    ),
]
#: Changed an hour from now: before the clock was set back.
FUTURE = f"status_at = now() + {HOUR}"
SWEPT += [
    Story(
        "due.set_back",
        "a request is under way: its lease begins anew, and nothing that the network did is older than it",
        ours("sending", FUTURE, *(f"{one} = now() + {HOUR}" for one in ("sent_at", "first_sent_at", "first_absent_at")))
        + change(5, f"wake_at = now() + {HOUR} + interval '30 seconds'"),
        "status_at < now() + interval '1 minute' AND sent_at < now() + interval '1 minute'"
        " AND first_absent_at < now() + interval '1 minute' AND first_sent_at < now() - interval '9 minutes'"
        " AND wake_at < now() + interval '1 minute'",
    ),
    Story(
        "due.set_back",
        "what was sent and seen before that stays as it was",
        ours(
            "unknown", FUTURE, *(f"{one} = now() - {HOUR}" for one in ("sent_at", "first_sent_at", "first_absent_at"))
        ),
        f"sent_at = now() - {HOUR} AND first_sent_at = now() - {HOUR} AND first_absent_at = now() - {HOUR}"
        " AND status_at < now() + interval '1 minute'",
    ),
    Story(
        "due.set_back",
        "in doubt, not sent in the future: its look comes after as long as was meant",
        ours("unknown", FUTURE, f"wake_at = now() + {HOUR} + interval '30 seconds'", f"sent_at = now() - {HOUR}"),
        "wake_at < now() + interval '1 minute'",
        ("alternative:status IN ('sending', 'unknown')",),
    ),
    Story(
        "due.set_back",
        "it waits for a pause: as long as was meant",
        ours("scheduled", FUTURE, f"not_before = now() + {HOUR} + interval '30 seconds'", f"wake_at = now() + {HOUR}"),
        "not_before < now() + interval '1 minute' AND wake_at = not_before",
        ("alternative:not_before > clock_timestamp()", "condition:status IN ('sending', 'unknown')"),
    ),
    Story(
        "due.set_back",
        "it was sent, given back, and waits for its date",
        ours("ready", FUTURE, f"sent_at = now() + {HOUR}", date=f"now() + {HOUR}"),
        f"sent_at < now() + interval '1 minute' AND wake_at = now() + {HOUR} AND not_before IS NULL",
        ("alternative:sent_at > clock_timestamp()", "p.id = d.post_id"),
    ),
    Story(
        "due.set_back",
        "it was sent, given back, and is due",
        ours("ready", FUTURE, f"sent_at = now() + {HOUR}"),
        "wake_at >= now() AND wake_at < now() + interval '1 minute'",
    ),
    Story(
        "due.set_back",
        "changed before the clock was set back, and nothing of it lies in the future: a date and a lease stay",
        ours("scheduled", FUTURE, f"wake_at = now() + {HOUR}", date=f"now() + {HOUR}"),
        REFUSED,
        ("condition:(status IN ('sending', 'unknown') OR sent_at…",),
    ),
    Story(
        "due.set_back",
        "a pause of a row that was changed a minute ago is no sign of a clock",
        ours("scheduled", PAUSED),
        REFUSED,
        ("status_at > clock_timestamp()",),
    ),
    Story(
        "due.set_back",
        "what is over awaits nothing",
        ours("published", FUTURE, f"sent_at = now() + {HOUR}"),
        REFUSED,
        ("wake_at IS NOT NULL",),
    ),
    Story(
        "due.set_back",
        "another row, of the present, is left alone",
        ours("sending", FUTURE) + a_row(6, "scheduled"),
        "untouched 6",
        ("d.id = a.id",),
    ),
    Story(
        "due.overslept",
        "its job got lost: it is woken now",
        ours("ready"),
        "wake_at >= now()",
    ),
    Story(
        "due.overslept",
        "its date is its own",
        ours("ready"),
        lambda rows: [row.is_due(LATER) for row in rows] == [True],
        ("p.id = deliveries.post_id",),
    ),
    Story(
        "due.overslept",
        "it has only just become due: the bell or the poll wake it",
        ours("ready", "wake_at = now() - interval '10 seconds'"),
        REFUSED,
        ("wake_at < clock_timestamp() - make_interval(secs => %(overslept_s)s)",),
    ),
    Story(
        "due.overslept",
        "another sleeps well",
        ours("ready") + a_row(6, "ready", "wake_at = now() + interval '1 minute'"),
        "untouched 6",
        ("deliveries.id = asleep.id",),
    ),
]
JOB = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args, status, scheduled_at)
    VALUES ('q', '{task}', {priority}, '{{"delivery_id": {number}}}', '{status}', {at});
"""


def a_job(task: str = "publish", *, priority: int = 0, number: int = 5, status: str = "todo", at: str = "now()") -> str:
    return JOB.format(task=task, priority=priority, number=number, status=status, at=at)


SWEPT += [
    Story(
        "due.overslept",
        "its job is due and waits for a worker: a backlog must not grow by being looked at",
        ours("ready") + a_job(),
        REFUSED,
        ("NOT EXISTS (SELECT FROM queued…",),
    ),
    Story("due.overslept", "one in doubt has a job to be looked for", ours("unknown") + a_job("reconcile"), REFUSED),
    *[
        Story("due.overslept", why, ours("ready") + job, "wake_at >= now()", guards)
        for why, job, guards in (
            ("its job has failed", a_job(status="failed"), ("status = 'todo'",)),
            ("its job is of another kind of queue", a_job(priority=5), ("priority IN (0, 10)",)),
            ("its job is for later", a_job(at=f"now() + {HOUR}"), ("scheduled_at <= clock_timestamp()",)),
            ("another has a job", a_job(number=6), ("queued.id = d.id::text",)),
            ("it has a job of another kind", a_job("reconcile"), ("queued.task_name = CASE d.status…",)),
        )
    ],
]

FORGOTTEN = [
    Story(
        "restoring.doubt",
        "it was due: as if its answer had been lost, to an attempt of now",
        ours("ready", DIRTY, "staged_at = now()", DIRTY_WORDS) + change(5, "claim = 'x'", "likeness = 'alike'"),
        f"status = 'unknown' AND {CHANGED} AND claim IS NULL AND wake_at > now() + {HOUR} AND attempt_no = 1"
        f" AND sent_at >= now() AND {CLEAN_LOOKS} AND error <> 'e' AND likeness IS NULL"
        f" AND first_sent_at = {DUE} AND error_code = 'forgotten'",
        ("alternative:(status IN ('scheduled', 'preparing', 'ready') AND p.post_date…",),
    ),
    Story(
        "restoring.doubt",
        "it was sent before: a look goes back as far",
        ours("ready", f"first_sent_at = now() - {HOUR}"),
        f"first_sent_at = now() - {HOUR}",
    ),
    Story(
        "restoring.doubt",
        "it was asked for again after its date",
        ours("ready", "asked_at = now() - interval '1 second'"),
        "first_sent_at = now() - interval '1 second'",
    ),
    Story(
        "restoring.doubt",
        "its state is the newest that is known of it",
        ours("ready", "status_at = now() - interval '1 second'"),
        "first_sent_at = now() - interval '1 second'",
    ),
    Story(
        "restoring.doubt",
        "it is due in a moment, by this clock",
        ours("ready", date="now() + interval '3 seconds'"),
        "first_sent_at < now() + interval '1 second'",
    ),
    Story(
        "restoring.doubt",
        "its date is to come; that of another has been",
        ours("ready", date=f"now() + {HOUR}") + f"UPDATE posts SET post_date = {DUE} WHERE id = 1;",
        REFUSED,
        (
            "p.id = deliveries.post_id",
            "condition:p.post_date <= CASE WHEN…",
            "condition:((status IN ('scheduled', 'preparing', 'ready') AND p.post_date…",
        ),
    ),
    Story(
        "restoring.doubt",
        "it is for after the failover, and the clock goes on as before",
        ours("ready", date="now() + interval '10 minutes'") + "UPDATE lineage SET seen_at = now();",
        REFUSED,
        ("condition:known.at > clock_timestamp()",),
    ),
    Story(
        "restoring.doubt",
        "the clock was set back since a sweep saw this history: it may have been due then",
        ours("ready", date="now() + interval '70 minutes'") + f"UPDATE lineage SET seen_at = now() + {HOUR};",
        "status = 'unknown'",
    ),
    Story(
        "restoring.doubt",
        "the clock was set back since something happened: it may have been due then",
        ours("ready", date="now() + interval '70 minutes'")
        + f"INSERT INTO delivery_events (delivery_id, status, sentence, at) VALUES (5, 'ready', 'x', now() + {HOUR});",
        "status = 'unknown'",
    ),
    Story(
        "restoring.doubt",
        "the clock was set back, and it is for long after",
        ours("ready", date="now() + interval '80 minutes'") + f"UPDATE lineage SET seen_at = now() + {HOUR};",
        REFUSED,
    ),
    Story(
        "restoring.doubt",
        "after a short gap, what was under way is known as such",
        ours("sending"),
        REFUSED,
        ("condition:%(long)s",),
    ),
    Story(
        "restoring.doubt",
        "after a long gap, it may have been sent in other words",
        ours("sending"),
        "status = 'unknown' AND error_code = 'restored' AND attempt_no = 2",
        ("alternative:(%(long)s AND status IN…", "alternative:%(long)s"),
        act=doubts(long=True),
    ),
    Story(
        "restoring.doubt",
        "after a long gap, what is over is over",
        ours("published"),
        REFUSED,
        ("condition:status IN ('sending', 'unknown')",),
        act=doubts(long=True),
    ),
    Story(
        "restoring.doubt",
        "its pictures were not prepared yet: with which it may be out, nobody knows",
        ours("scheduled") + "UPDATE posts SET content = '{\"attachments\": [1]}' WHERE id = 5;",
        "error_code = 'restored'",
        ("alternative:(status <> 'ready' AND p.content…",),
    ),
    Story(
        "restoring.doubt",
        "its pictures were prepared: they tell it from others",
        ours("ready") + "UPDATE posts SET content = '{\"attachments\": [1]}' WHERE id = 5;",
        "error_code = 'forgotten'",
        ("condition:status <> 'ready'", "condition:%(long)s OR (status <> 'ready'…"),
    ),
    Story(
        "restoring.doubt",
        "a text that was not prepared yet",
        ours("scheduled"),
        "error_code = 'forgotten'",
        ("condition:p.content->'attachments' <> '[]'",),
    ),
]

# -- told of every function alike --------------------------------------------------------------------------------

#: From which states each moves a row that its worker has the claim of; docs/lifecycle.md draws those that are arrows.
FROM: dict[str, tuple[str, ...]] = {
    "transitions.claim_to_prepare": ("scheduled",),
    "transitions.renew": ("preparing",),
    "transitions.checkpoint": ("preparing",),
    "transitions.mark_ready": ("preparing",),
    "transitions.give_back": ("preparing", "sending", "unknown"),
    "transitions.restage": ("ready",),
    "transitions.claim_to_send": ("ready",),
    "transitions.mark_published": ("scheduled", "preparing", "ready", "sending", "unknown", "attention"),
    "transitions.mark_failed": ("preparing", "sending", "unknown"),
    "transitions.mark_missed": ("scheduled", "ready"),
    "transitions.mark_unknown": ("sending",),
    "transitions.claim_to_look": ("unknown",),
    "transitions.look_again": ("unknown",),
    "transitions.send_again": ("unknown",),
    "transitions.mark_attention": ("unknown",),
    "deliveries.begin_again": ("scheduled", "preparing", "ready"),
    "deliveries.move": ("scheduled", "preparing", "ready", "missed"),
    "deliveries.cancel": ("scheduled", "preparing", "ready"),
    "deliveries.forget_remote": ("published", "failed", "attention", "missed", "cancelled"),
    "deliveries.ask_again": ("failed", "missed", "cancelled"),
    "deliveries.set_aside": ("failed", "missed", "cancelled"),
    "deliveries.acknowledge": ("published",),
    "deliveries.settle_published": ("attention",),
    "deliveries.settle_absent": ("attention",),
    "due.postpone": ("scheduled", "ready"),
    "due.hold": ("scheduled", "ready"),
    "due.add_permalink": ("published",),
    "due.drop_preparing": ("preparing",),
    "due.lose_sending": ("sending",),
    "due.overslept": ("scheduled", "ready", "unknown"),
    "restoring.doubt": ("scheduled", "preparing", "ready"),
    "rechecking.tell": ("published",),
}
EVERYWHERE = [
    *(
        Story(where, f"nothing leads there from {state}", ours(state) + HEARD, REFUSED)
        for where, states in FROM.items()
        for state in STATES
        if state not in states
    ),
    *(
        Story(
            where,
            "another row in the same state is not meant",
            ours(states[0]) + a_row(6, states[0], account=2),
            "untouched 6",
        )
        for where, states in FROM.items()
        if where not in ("due.drop_preparing", "due.lose_sending", "due.overslept", "restoring.doubt")
    ),
    *(
        Story(where, f"{state} is one of those that it moves", ours(state, "staged = '{}'") + HEARD, "changed 5")
        for where, states in FROM.items()
        for state in states
    ),
    *(
        Story(
            "transitions.mark_failed",
            f"nobody works on it, but it is {state}",
            ours(state, "claim = 'theirs'"),
            REFUSED,
            act=fails(None),
        )
        for state in STATES
        if state not in ("scheduled", "ready", "unknown")
    ),
    Story(
        "deliveries.ask_with",
        "a part that is out, or over, has its own story",
        a_row(4, "failed") + a_row(5, "failed", parent="4"),
        REFUSED,
    ),
]

STORIES: list[Story] = [
    *PREPARING,
    *GIVING_BACK,
    *AS_IT_WAS,
    *SENDING,
    *OUT,
    *IN_DOUBT,
    *BY_A_PERSON,
    *SWEPT,
    *FORGOTTEN,
    *EVERYWHERE,
]

#: Rows are changed there, too, by no arrow; not tried here.
ELSEWHERE = {
    "accounts.connect": "what the account was told to wait is over with its new access",
    "accounts.forget_person": "tests/web",
    "retention.(module)": "tests/engine/test_purging.py and test_purging_bounds.py",
    "jobs.(module)": "wakes what waited for an account",
}
#: What no story misses, and why it stands there all the same: by function, parts of its statement.
NOT_NEEDED: dict[str, dict[str, str]] = {
    "transitions.claim_to_prepare": {
        "condition:deliveries.status = 'scheduled'": "`turns.PAUSE` is asked of other states, too; here all are scheduled",
    },
    "transitions.claim_to_send": {
        "before.status = 'published'#1": "nothing else has a `remote_id`",
        "o.wake_at <= now() + interval '1 day'": "bounds what is read of the index, and no lease or wake is as long",
        **dict.fromkeys(
            (
                "condition:NOT ( (o.status = 'scheduled' AND…",
                "alternative:o.staged IS NULL",
                "alternative:o.sent_at IS NULL",
                "EXISTS (SELECT FROM post_media WHERE post_media.post_id = o.post_id)",
                "post_media.post_id = o.post_id",
                "EXISTS (SELECT FROM accounts a…",
                "a.id = o.account_id",
                "a.uploads_throttled_until > clock_timestamp()",
            ),
            "asked for the late ones' order; who goes before another of its instant has nothing left to upload",
        ),
        **dict.fromkeys(
            (
                "value:CASE WHEN (deliveries.status = 'scheduled'…",
                "condition:(deliveries.staged IS NULL OR…",
                "alternative:deliveries.staged IS NULL",
                "alternative:deliveries.sent_at IS NULL",
                "EXISTS (SELECT FROM post_media WHERE post_media.post_id = deliveries.post_id)",
                "post_media.post_id = deliveries.post_id",
            ),
            "`turns.PAUSE` is asked of other states, too; what is ready has nothing left to upload",
        ),
    },
    "deliveries.set_aside": {"column:wake_at = NULL": "what is over has none"},
}
