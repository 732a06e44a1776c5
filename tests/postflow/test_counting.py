"""The numbers a person sees while typing are the network's own."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from postflow.models import Limits
from postflow.platforms import counting
from tests.patience import PATIENCE_S

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "counting_cases.json").read_text())
SCRIPT = Path(__file__).parents[2] / "web" / "static" / "js" / "counting.js"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['network']}-{case['text'][-30:]!a}")
def test_it_counts_as_the_network_does(case: dict[str, Any]) -> None:
    count = getattr(counting, case["network"])
    args = [case["text"], case["spoiler"]] if case.get("spoiler") else [case["text"]]
    options = {"per_url": case["per_url"]} if "per_url" in case else {}
    assert count(*args, **options) == case["count"], case.get("why")


def in_the_browser(cases: Sequence[dict[str, Any]], tmp_path: Path) -> list[int]:
    """The counts of counting.js, run by node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed, so the browser's counting is not compared here")
    check = tmp_path / "check.mjs"
    check.write_text(
        f"import {{ count }} from {json.dumps(SCRIPT.as_uri())};\n"
        "import { readFileSync } from 'node:fs';\n"
        "const cases = JSON.parse(readFileSync(0, 'utf8'));\n"
        "const counts = cases.map(({ network, text, spoiler, per_url }) => count[network](\n"
        "  text, spoiler ?? '', per_url));\n"
        "console.log(JSON.stringify(counts));\n"
    )
    told = subprocess.run(
        [node, str(check)], input=json.dumps(cases), capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def test_the_browser_counts_every_case_as_the_server_does(tmp_path: Path) -> None:
    counts = in_the_browser(CASES, tmp_path)
    different = [(case, count) for case, count in zip(CASES, counts, strict=True) if count != case["count"]]
    assert different == []


PIECES = (
    "hello", " ", "\n", "\r\n", "ž", "e\u0301", "中文", "👍🏽", "👨‍👩‍👧‍👦", "🇨🇿", "🏳️‍🌈", "@ada", "@ada@birds.example", "@a.b@c",
    "https://example.com", "https://example.com/a(b)c?d=é#f", "http://localhost", "https://müller.example/ž", "example.org",
    "#tag", "<b>", "</b>", "<3", "<!-- no -->", '<a href="x>y">', "&amp;", ".", ",", "(", ")", "!", "@", "://", "a" * 40,
)  # fmt: skip
WAYS = ("mastodon", "graphemes", "gotosocial", "plain", "pixelfed", "instagram")


def test_the_browser_counts_three_thousand_jumbled_texts_as_the_server_does(tmp_path: Path) -> None:
    jumble = random.Random(20261124)
    cases = [
        {
            "network": jumble.choice(WAYS),
            "text": "".join(jumble.choices(PIECES, k=jumble.randint(1, 12))),
            "spoiler": "".join(jumble.choices(PIECES, k=jumble.randint(0, 3))),
            "per_url": jumble.choice((23, 32)),
        }
        for _ in range(3000)
    ]
    different = [
        (case, here, there)
        for case, there in zip(cases, in_the_browser(cases, tmp_path), strict=True)
        if (here := counting.length(case["text"], case["spoiler"], case["network"], per_url=case["per_url"])) != there
    ]
    assert different == []


@given(ANY_TEXT, ANY_TEXT)
def test_mastodon_adds_the_warning_to_the_text(text: str, spoiler: str) -> None:
    assert counting.mastodon(text, spoiler) == counting.mastodon(text) + counting.graphemes(spoiler)


@given(ANY_TEXT, ANY_TEXT)
def test_every_way_of_counting_has_a_name_and_none_counts_less_than_nothing(text: str, spoiler: str) -> None:
    ways = get_args(Limits.model_fields["counting"].annotation)
    assert set(ways) == set(WAYS)
    for how in ways:
        assert 0 <= counting.length(text, spoiler, how) <= counting.plain(text) * 23 + counting.plain(spoiler)


@given(ANY_TEXT)
def test_only_a_short_link_counts_for_more_than_it_shows(text: str) -> None:
    assert counting.mastodon(text, per_url=0) <= counting.graphemes(text) <= counting.plain(text)


@given(st.from_regex(r"[a-z0-9/_-]{0,80}", fullmatch=True))
def test_a_link_counts_the_same_however_long_it_is(path: str) -> None:
    assert counting.mastodon(f"go https://example.com/{path} now") == 3 + 23 + 4


@given(st.from_regex(r"[a-z0-9_]{1,20}", fullmatch=True), st.from_regex(r"[a-z0-9]{1,30}\.[a-z]{2,8}", fullmatch=True))
def test_a_remote_name_counts_as_the_local_one(user: str, host: str) -> None:
    assert counting.mastodon(f"hi @{user}@{host}") == counting.mastodon(f"hi @{user}")


@given(ANY_TEXT)
def test_pixelfed_never_counts_more_than_was_typed_and_takes_all_text_without_a_bracket(text: str) -> None:
    assert counting.pixelfed(text) <= counting.plain(text)
    assert counting.pixelfed(text.replace("<", "")) == counting.plain(text.replace("<", ""))


#: What is said again and again, behind how it begins and before how it ends: each was slow on one way or another.
SLOW = (
    ("https://", "a.", ""), ("https://", "ab.", "1"), ("https://", "a-", ""), ("https://", "a", "."), ("", "https://", ""),
    ("", "https://a.bc/(", ""), ("", "https://a.bc?!", ""), ("https://a.bc/", "(", ""), ("https://a.bc/", ".", ""),
    ("https://a.bc/", "(a)", "."), ("https://a.bc/", "(a(b)c)", "!"), ("https://a.bc/?", "!", ""), ("", "a.", ""),
    ("@", "a.", ""), ("@a@", "a.", "a@"), ("@a@", "a..", "@"), ("", "@a@a-", ""), ("", "@a@", ""), ("@a", ".", ""),
    ("", "🇨🇿", ""), ("🇨", "🇿🇨", "\u0301"), ("", "👨\u200d", ""), ("👨", "\u0301\u200d", ""), ("क", "्", "क"),
    ("", "<'", ""), ("", '<"', ""), ("", "<!--", ""), ("<", "<", ""), ("", "#", ""), ("", "@a.", ""), ("", "&#a", ""),
)  # fmt: skip
#: They take some six seconds in all. Four times as much for twice the length would take many minutes.
CPU_S = 60


def test_text_made_to_be_slow_takes_time_in_proportion_to_its_length() -> None:
    """The kernel ends the child when it has used more of the processor."""
    program = f"""if True:
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, ({CPU_S}, {CPU_S}))
        from postflow.platforms import counting
        for start, again, end in {SLOW!r}:
            text = start + again * (250_000 // len(again)) + end
            for count in (counting.mastodon, counting.pixelfed, counting.hashtags, counting.mentions):
                assert 0 <= count(text) <= 12 * len(text)
    """
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr or "it was ended for using too much of the processor"


@given(st.integers(1, 40), st.sampled_from(("", "\u0600", "a")), st.sampled_from(("", "\u0301", "\u200d", "b")))
def test_a_row_of_flags_counts_as_unicode_divides_it(halves: int, before: str, behind: str) -> None:
    row = before + "🇨" * halves + behind
    assert counting.graphemes(row) == len(regex.findall(r"\X", row))
