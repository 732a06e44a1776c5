"""docs/architecture.md against the code: its picture is the contract's, its files are there, each room says what it holds."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = (CHECKOUT / "docs" / "architecture.md").read_text()
ROOMS = sorted(
    path.parent
    for package in ("postflow", "web", "sandbox")
    for path in (CHECKOUT / package).glob("*/__init__.py")
    if path.parent.name != "platforms"
)


def test_the_picture_is_the_contract() -> None:
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [one["layers"] for one in contracts if one.get("containers") == ["postflow"]]
    assert "\n".join(["```", *layers, "```"]) in DOCUMENT


def test_the_way_of_a_post_leads_through_files_that_are_there() -> None:
    files = re.findall(r"`((?:postflow|web|worker|tests)/[\w/]+\.py)`", DOCUMENT)
    assert len(files) > 10
    assert [file for file in files if not (CHECKOUT / file).exists()] == []


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_each_room_lists_its_modules(room: Path) -> None:
    said = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    modules = {path.stem for path in room.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert [name for name in sorted(modules - {"__init__"}) if not re.search(rf"\b{name}\b", said)] == []
