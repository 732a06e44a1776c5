"""What a network would refuse, said before anything is scheduled: per account and part, with what to do about it."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg import Connection

from postflow import platforms
from postflow.accounts import accounts, servers
from postflow.errors import Invalid, NotFound
from postflow.media import media
from postflow.models import Account, AccountState, Content, Media, NewPost, Problem, Server
from postflow.notifications import posts_at_risk
from postflow.posts import posts
from postflow.wording import counted

FURTHEST = timedelta(days=366 * 5)
#: Farther than most people plan: more likely a slip in the year.
FAR = timedelta(days=366)
#: Of all parts, warnings and answers together. No server takes more, and nothing beyond it is counted.
MOST_CHARS = 100_000
#: A form filled in at 09:00:00 for 09:00 arrives a little later: that is "now", not "the past".
JUST_PAST = timedelta(minutes=2)


class Finding(NamedTuple):
    """What stands in the way of a post, or a nudge: on one account, or (None) whichever the account."""

    account: Account | None
    part: int  # of a thread; 0 is the first
    problem: Problem

    @property
    def field(self) -> str:
        """The composer's name for where it belongs; a network's own options carry the network's name there."""
        name = self.problem.field
        if self.account and name.startswith("options."):
            name = f"{self.account.platform}.{name.removeprefix('options.')}"
        return f"thread.{self.part - 1}.{name}" if self.part else name

    @property
    def sentence(self) -> str:
        return f"{self.account.handle}: {self.problem.sentence}" if self.account else self.problem.sentence


def check(conn: Connection, user_id: int, new: NewPost, *, now: datetime) -> list[Finding]:
    """Everything a network would refuse, and nudges that stop nobody. Raises Invalid for what is not one's own, and for more
    than anybody writes: each network counts it anew.
    """
    _refuse_absurd(new)
    found = [Finding(None, 0, problem) for problem in _own_problems(new, now)]
    uploads = own_media(conn, user_id, contents(new))
    for account in own_accounts(conn, user_id, new.account_ids):
        found += [Finding(account, 0, problem) for problem in _account_problems(account, new.post_date)]
        server = servers.get(conn, account.platform, account.base_url)
        found += [Finding(account, 0, problem) for problem in servers.problems(server, now)]
        found += [Finding(account, 0, problem) for problem in _crowded(conn, account, server, new.post_date)]
        for place, content in enumerate(contents(new)):
            if not _is_empty(content):
                said = _problems(account, server, content, uploads, is_reply=place > 0)
                found += [Finding(account, place, problem) for problem in said]
    return found


def refuse(conn: Connection, user_id: int, new: NewPost, *, now: datetime) -> None:
    """Raises Invalid with everything that is wrong at once."""
    fields: dict[str, list[str]] = {}
    for finding in check(conn, user_id, new, now=now):
        if finding.problem.blocking and finding.sentence not in fields.setdefault(finding.field, []):
            fields[finding.field].append(finding.sentence)
    if any(fields.values()):
        raise Invalid({field: said for field, said in fields.items() if said})


# -- what stands in the way --------------------------------------------------------------------------------------


def _refuse_absurd(new: NewPost) -> None:
    chars = sum(
        len(content.text) + len(content.spoiler_text) + sum(map(len, content.poll.options if content.poll else ()))
        for content in contents(new)
    )
    if chars > MOST_CHARS:
        raise Invalid(
            {"text": f"This is {chars:,} characters long. No network takes more than {MOST_CHARS:,}: shorten it."}
        )


def _own_problems(new: NewPost, now: datetime) -> Iterator[Problem]:
    """What stands in the way whichever the network."""
    if not new.account_ids:
        yield Problem(sentence="Choose at least one account.", field="accounts")
    if new.post_date is None:
        yield Problem(sentence="Choose a date and a time.", field="post_date")
    elif said := date_problem(new.post_date, now):
        yield Problem(sentence=said, field="post_date")
    elif new.post_date > now + FAR:
        yield Problem(
            sentence=f"This is far ahead, in {new.post_date:%Y}. Is the year right?", field="post_date", blocking=False
        )
    if any(_is_empty(content) for content in contents(new)):
        yield Problem(sentence="Write something or add a picture: there is nothing to publish yet.")


def _account_problems(account: Account, post_date: datetime | None) -> Iterator[Problem]:
    if account.state is AccountState.disconnected:
        yield Problem(sentence="It is disconnected. Connect it again first, or take it off.", field="accounts")
    yield from posts_at_risk.problems(account, post_date)


def _crowded(
    conn: Connection, account: Account, server: Server | None, post_date: datetime | None
) -> Iterator[Problem]:
    """What is planned may fill a day before the network has seen any of it."""
    most = server.limits.posts_per_day if server else None
    if most is None or post_date is None:
        return
    row = conn.execute(
        """
        SELECT count(*) FROM deliveries d JOIN posts p ON p.id = d.post_id
         WHERE d.account_id = %(account_id)s AND d.status NOT IN ('cancelled', 'failed', 'missed')
           AND p.post_date > %(at)s::timestamptz - interval '24 hours' AND p.post_date <= %(at)s
        """,
        {"account_id": account.id, "at": post_date},
    ).fetchone()
    if row and row[0] >= most:
        planned = f"{counted(row[0], 'post')} {'is' if row[0] == 1 else 'are'} planned there"
        said = f"{planned} for the 24 hours before, and {most} may be the most it takes."
        yield Problem(sentence=f"{said} This one may have to wait.", field="post_date", blocking=False)


def _problems(
    account: Account, server: Server | None, content: Content, uploads: dict[int, Media], *, is_reply: bool
) -> Sequence[Problem]:
    try:
        platform = platforms.get(account.platform)
    except NotFound as gone:
        return [Problem(sentence=str(gone), field="accounts")]
    if server is None:
        return []  # never seen yet; the worker asks it before it prepares
    attached = [uploads[attachment.media_id] for attachment in content.attachments]
    return platform.check(content, attached, server, account, is_reply=is_reply)


def _is_empty(content: Content) -> bool:
    return not (content.text.strip() or content.attachments or content.poll)


def date_problem(post_date: datetime, now: datetime) -> str | None:
    if post_date < now - JUST_PAST:
        return f"This time has passed {_ago(now - post_date)} ago. Choose a later one, or press “Publish now”."
    if post_date > now + FURTHEST:
        return "This is more than five years away. Choose an earlier date."
    return None


def _ago(since: timedelta) -> str:
    for unit, seconds in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        number = int(since.total_seconds() // seconds)
        if number:
            return counted(number, unit)
    return "a moment"


def contents(new: NewPost) -> list[Content]:
    return [new.content, *new.thread]


# -- what it is about -----------------------------------------------------------------------------------------------


def own_accounts(conn: Connection, user_id: int, ids: Sequence[int]) -> list[Account]:
    """Raises Invalid for one that is somebody else's or gone."""
    try:
        return [accounts.get(conn, user_id, account_id) for account_id in dict.fromkeys(ids)]
    except NotFound:
        raise Invalid({"accounts": "One of the chosen accounts is not yours or is gone. Choose again."}) from None


def own_media(conn: Connection, user_id: int, said: Sequence[Content]) -> dict[int, Media]:
    """By their ids. Raises Invalid for one that is somebody else's or gone."""
    ids = {attachment.media_id for content in said for attachment in content.attachments}
    found = media.get_many(conn, user_id, list(ids))
    if len(found) != len(ids):
        raise Invalid({"media": posts.MEDIA_GONE})
    return {one.id: one for one in found}
