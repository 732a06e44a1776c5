"""What a network added in one file does beyond the contract suite, which it passes as well."""

import re

from postflow.models import Content
from tests.platforms.conftest import Start
from tests.platforms.fourth.bluesky import record_key


async def test_the_same_record_put_twice_is_one_post(start: Start) -> None:
    case = await start("bluesky")
    first, again = await case.publish(), await case.commit()
    assert first == again
    assert case.times_out() == 1


async def test_a_thread_points_to_its_root_and_its_parent(start: Start) -> None:
    case = await start("bluesky", pictures=0, text="one")
    ids = [(await case.publish()).remote_id]
    for number in ("two", "three"):
        case.staged = None
        case.changed(content=Content(text=number), reply_to_remote_id=ids[-1])
        ids.append((await case.publish()).remote_id)
    one, two, three = case.sandbox.ledger.statuses(account=case.account)
    assert (two.in_reply_to_id, three.in_reply_to_id) == (one.id, two.id)
    assert three.details["record"]["reply"]["root"] == two.details["record"]["reply"]["root"]
    assert three.details["record"]["reply"]["root"]["uri"].endswith(one.id)


async def test_links_are_marked_by_their_place_in_bytes_and_the_rest_arrives(start: Start) -> None:
    text = "žluť https://example.com/a. Ende"
    case = await start(
        "bluesky", text=text, sensitive=True, language="cs", options={"bluesky": {"tags": ["birds", "sea"]}}
    )
    await case.publish()
    (status,) = case.sandbox.ledger.statuses(account=case.account)
    record = status.details["record"]
    (facet,) = record["facets"]
    marked = text.encode()[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode()
    assert marked == facet["features"][0]["uri"] == "https://example.com/a"
    assert (record["langs"], record["tags"]) == (["cs"], ["birds", "sea"])
    assert record["labels"]["values"] == [{"val": "graphic-media"}]
    assert record["embed"]["images"][0]["aspectRatio"] == {"width": 32, "height": 24}


def test_record_keys_are_sortable_and_thirteen_long() -> None:
    keys = [record_key() for _ in range(100)]
    assert [key[:9] for key in keys] == sorted(key[:9] for key in keys)
    assert all(re.fullmatch(r"[234567a-j][234567a-z]{12}", key) for key in keys)
