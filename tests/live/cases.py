"""PostFlow against a real server: what was asked for is there, once, as the server itself counts and shows it.

In their order: each case needs the connection that the first one makes.
"""

import time
from typing import Any

import pytest

from postflow.models import Visibility
from tests.live.account import Status, words
from tests.live.conftest import RECORD, Live, Row
from tests.live.house import Fields, Out, sentences

pytestmark = pytest.mark.timeout(1800)

#: A plain post; after a lost answer (settling, two looks); after a worker's death (its lease, the sweep, the looks).
SOON_S, AFTER_LOOKS_S, AFTER_DEATH_S = 90.0, 600.0, 900.0
COLOURS = ("navy", "teal", "orange", "purple")


def test_connect(live: Live, row: Row) -> None:
    live.connect()
    live.house.start_worker()
    server = live.house.server
    RECORD.title = f"PostFlow with {server.software} {server.version} at {live.between.server_url}"
    old = live.account.tidy_after_others()
    RECORD.remarks += [f"Left by an earlier run, could not be deleted: {one}" for one in old]
    row.result = f"{live.house.account.handle}, {'by a token' if live.house.by_hand else 'by its consent page'}"


# -- what goes out -----------------------------------------------------------------------------------------------


def test_text(live: Live, row: Row) -> None:
    published(live, row, [("text", "Two lines, one link:\r\nhttps://example.org/a?b=c&d=e äöü 🐘")])


def test_one_picture(live: Live, row: Row) -> None:
    picture = live.house.upload("teal")
    published(live, row, [("text", "One picture."), ("media_id", picture), (f"alt.{picture}", "a teal square")])


def test_four_pictures(live: Live, row: Row) -> None:
    most = live.house.server.limits.max_media
    pictures = [live.house.upload(colour, 640, 400 + 40 * place) for place, colour in enumerate(COLOURS[:most])]
    described: Fields = [("media_id", one) for one in pictures]
    described += [(f"alt.{one}", f"“{colour}” & more") for one, colour in zip(pictures, COLOURS, strict=False)]
    published(live, row, [("text", "Some pictures."), *described])


def test_content_warning(live: Live, row: Row) -> None:
    published(live, row, [("text", "Behind a warning."), ("spoiler_text", "mud & rain"), ("sensitive", "on")])


@pytest.mark.parametrize("visibility", ["public", "private", "direct"])
def test_visibility(live: Live, row: Row, visibility: str) -> None:
    if Visibility(visibility) not in live.house.server.limits.visibilities:
        pytest.skip("the server does not know it")
    published(live, row, [("text", f"For {visibility} eyes."), ("visibility", visibility)])


def test_poll(live: Live, row: Row) -> None:
    if live.house.server.limits.polls is None:
        pytest.skip("the server takes no polls from PostFlow")
    published(live, row, [("text", "Which sea?"), ("poll_options", "North\r\nBaltic"), ("poll_expires", "21600")])


def test_thread_of_three(live: Live, row: Row) -> None:
    marker, since, picture = live.marker(), len(live.between.commits), live.house.upload("olive")
    one, two, three = (f"Part {number} {marker}" for number in ("one", "two", "three"))
    fields: Fields = [("text", one), ("part", "2"), ("text.2", two), ("media_id.2", picture), ("part", "3")]
    fields = with_picture(live, [*fields, ("text.3", three)])
    parts = live.house.outcome(live.house.schedule(fields), SOON_S)
    live.timed(row, parts[0], since)
    assert [part.delivery.status for part in parts] == ["published"] * 3, told(live, parts)
    there = live.account.bearing(marker, remote_ids(parts))
    row.count = str(len(there))
    assert len(there) == 3, f"{len(there)} on the server instead of 3"
    by_id = {str(one["id"]): one for one in there}
    found = [by_id[one] for one in remote_ids(parts)]
    assert [parent_of(one) for one in found] == [None, *remote_ids(parts)[:2]], "not a chain of answers"
    first = 1 if live.house.server.limits.min_media else 0
    assert [len(one["media_attachments"]) for one in found] == [first, 1, 0]
    row.result = "out once each, in a chain"


# -- what does not ---------------------------------------------------------------------------------------------


def test_over_long_text(live: Live, row: Row) -> None:
    marker, most, since = live.marker(), live.house.server.limits.max_chars, len(live.between.commits)
    if most > 300_000:  # of letters the composer takes half a megabyte
        pytest.skip(f"the server takes {most} characters")
    answer = live.house.compose([("text", marker + " " + "a" * most)])
    assert answer.status_code == 422, f"HTTP {answer.status_code} instead of a refusal"
    count(live, row, marker, 0)
    assert live.passed(since) == []
    row.result = f"refused: {sentences(answer)[-1]}"


# -- mishaps -----------------------------------------------------------------------------------------------------


def test_access_lost(live: Live, row: Row) -> None:
    """The stored token opens nothing: the post waits until the account is connected again."""
    marker, since = live.marker(), len(live.between.commits)
    live.house.spoil_token()
    ids = live.house.schedule(with_picture(live, [("text", f"Waits for access. {marker}")]))
    live.house.until("SELECT state = 'needs_reconnect' FROM accounts", SOON_S)
    assert "Connect it again" in live.house.browser.get("/accounts").text
    assert [one.delivery.status for one in live.house.look(ids)] == ["scheduled"]
    count(live, row, marker, 0)
    live.connect()
    [out] = live.house.outcome(ids, SOON_S)
    live.timed(row, out, since)
    assert out.delivery.status == "published", told(live, [out])
    count(live, row, marker, 1, out)
    row.result = "held, said so; out once after connecting again"


def test_server_away(live: Live, row: Row) -> None:
    """Nobody listens when the date comes."""
    marker, since = live.marker(), len(live.between.commits)
    ids = live.house.schedule(with_picture(live, [("text", f"The server is away. {marker}")]))
    live.house.until(f"SELECT status = 'ready' FROM deliveries WHERE id = {ids[0]}", SOON_S)
    live.between.go_away()
    try:
        live.house.until(f"SELECT count(*) > 0 FROM deliveries WHERE id = {ids[0]} AND faults > 0", SOON_S)
    finally:
        live.between.come_back()
    [out] = live.house.outcome(ids, AFTER_LOOKS_S)
    live.timed(row, out, since)
    assert out.delivery.status == "published", told(live, [out])
    count(live, row, marker, 1, out)
    row.result = "tried again, out once"


@pytest.mark.parametrize("what", ["text", "picture"])
def test_answer_lost(live: Live, row: Row, what: str) -> None:
    """The server has published it, and nobody heard."""
    fields: Fields = []
    if what == "picture":
        picture = live.house.upload("maroon")
        fields = [("media_id", picture), (f"alt.{picture}", "a maroon square")]
    trick = live.between.next_commit("loses answer")
    out = published(live, row, [("text", "The answer is lost."), *fields], patience_s=AFTER_LOOKS_S)
    assert trick.met.is_set() and "unknown" in statuses(live, out)
    row.result = f"found there, {row.result}"


def test_request_lost(live: Live, row: Row) -> None:
    """The server has never seen it: sent again where absence can be proven, else the person says so."""
    marker, since = live.marker(), len(live.between.commits)
    live.between.next_commit("loses request")
    ids = live.house.schedule(with_picture(live, [("text", f"The request is lost. {marker}")]))
    [out] = live.house.outcome(ids, AFTER_LOOKS_S)
    row.result = "seen absent, sent again, out once"
    if out.delivery.status == "attention":
        count(live, row, marker, 0, out)
        live.house.settle(ids[0], there=False)
        [out] = live.house.outcome(ids, SOON_S)
        row.result = "left to the person; “it is not there”: out once"
    live.timed(row, out, since)
    assert out.delivery.status == "published", told(live, [out])
    count(live, row, marker, 1, out)


def test_worker_killed(live: Live, row: Row) -> None:
    """-9 while the server has published and the answer is on its way."""
    marker, since = live.marker(), len(live.between.commits)
    trick = live.between.next_commit("holds answer")
    ids = live.house.schedule(with_picture(live, [("text", f"Its worker is killed. {marker}")]))
    assert trick.met.wait(SOON_S), told(live, live.house.look(ids))
    live.house.kill_worker()
    trick.let_go.set()
    live.house.start_worker()
    [out] = live.house.outcome(ids, AFTER_DEATH_S)
    live.timed(row, out, since)
    assert out.delivery.status == "published", told(live, [out])
    count(live, row, marker, 1, out)
    row.result = "found there, out once"


# -- the end -----------------------------------------------------------------------------------------------------


def test_nothing_came_twice(live: Live, row: Row) -> None:
    """Late arrivals included: counted once more, over the whole run."""
    time.sleep(5)
    there = live.account.bearing(live.run, live.house.remote_ids())
    row.count = str(len(there))
    assert sorted(str(one["id"]) for one in there) == sorted(live.house.remote_ids())
    row.result = f"{len(there)} statuses, each told of once"


def test_disconnect(live: Live, row: Row) -> None:
    """Access by consent is given back; a token made by hand is its person's."""
    by_hand = live.house.by_hand
    given_back = live.disconnect()
    assert given_back is not by_hand, f"the server {'refuses' if given_back else 'still accepts'} the token"
    row.result = "disconnected" if by_hand else "disconnected, access given back"


# -- what is compared --------------------------------------------------------------------------------------------


def published(live: Live, row: Row, fields: Fields, *, patience_s: float = SOON_S) -> Out:
    """Written, scheduled, out once, and as it was written or PostFlow says what the server made of it."""
    marker, since = live.marker(), len(live.between.commits)
    said = [(name, f"{value}\r\n{marker}" if name == "text" else value) for name, value in with_picture(live, fields)]
    [out] = live.house.outcome(live.house.schedule(said), patience_s)
    live.timed(row, out, since)
    assert out.delivery.status == "published", told(live, [out])
    there = count(live, row, marker, 1, out)
    different = differences(said, there[0])
    notes = " ".join(out.delivery.notes)
    assert notes or not different, f"{', '.join(different)}: and the person is not told"
    row.result = f"out once; told: {notes}" if notes else "out once"
    return out


def with_picture(live: Live, fields: Fields) -> Fields:
    """Pixelfed takes no post without one."""
    if not live.house.server.limits.min_media or any(name == "media_id" for name, _ in fields):
        return fields
    return [*fields, ("media_id", live.house.upload("silver"))]


def count(live: Live, row: Row, marker: str, wanted: int, out: Out | None = None) -> list[Status]:
    there = live.account.bearing(marker, remote_ids([out]) if out else ())
    row.count = str(len(there))
    assert len(there) == wanted, f"{len(there)} on the server instead of {wanted}"
    if out and wanted == 1:
        assert str(there[0]["id"]) == out.delivery.remote_id, "PostFlow names another status"
    return there


def differences(fields: Fields, status: Status) -> list[str]:
    """Between what was typed and what the server shows."""
    asked = dict(fields)
    pictures = [value for name, value in fields if name == "media_id"]
    alts = [asked.get(f"alt.{one}", "") for one in pictures]
    shown: list[tuple[str, Any, Any]] = [
        ("text", squeezed(f"{asked.get('spoiler_text', '')} {asked['text']}"), squeezed(words(status))),
        ("warning", asked.get("spoiler_text", ""), status.get("spoiler_text") or ""),
        ("visibility", asked.get("visibility", "unlisted"), status.get("visibility")),
        ("sensitive", "spoiler_text" in asked, bool(status.get("sensitive"))),
        ("pictures", len(pictures), len(status.get("media_attachments") or [])),
        ("alt text", alts, [one.get("description") or "" for one in status.get("media_attachments") or []]),
        ("poll", answers_of(asked), [one.get("title") for one in (status.get("poll") or {}).get("options", [])]),
        ("parent", None, parent_of(status)),
    ]
    return [f"{what} is {there!r} instead of {meant!r}" for what, meant, there in shown if meant != there]


def answers_of(asked: dict[str, Any]) -> list[str]:
    return [one.strip() for one in str(asked.get("poll_options", "")).splitlines()]


def squeezed(text: str) -> str:
    """Servers shorten links that they show, and each breaks lines in its own way."""
    return "".join(text.split()).replace("https://", "")


def parent_of(status: Status) -> str | None:
    parent = status.get("in_reply_to_id")
    return str(parent) if parent else None


def remote_ids(parts: list[Out]) -> list[str]:
    return [one.delivery.remote_id for one in parts if one.delivery.remote_id]


def statuses(live: Live, out: Out) -> list[str]:
    query = "SELECT status FROM delivery_events WHERE delivery_id = %s ORDER BY id"
    return [found[0] for found in live.house.db.execute(query, [out.delivery.id])]


def told(live: Live, parts: list[Out]) -> str:
    return " / ".join(f"{one.delivery.status}: {' > '.join(live.house.story(one.delivery.id))}" for one in parts)
