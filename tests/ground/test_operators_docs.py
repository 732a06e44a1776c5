"""What the operators' pages say is there: commands, settings, queries, messages, and the tests they point at."""

import re
import shlex
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet

from postflow import cli, config
from postflow.operations.retention import KINDS

CHECKOUT = Path(__file__).parents[2]
PAGES = ["operations.md", "troubleshooting.md", "coming-from-the-older-postflow.md"]
TEXT = {name: (CHECKOUT / "docs" / name).read_text() for name in PAGES}
SOURCE = "\n".join(
    path.read_text() for folder in ("postflow", "worker", "web") for path in (CHECKOUT / folder).rglob("*.py")
)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_the_operators_pages_exists(page: str):
    found = set(re.findall(r"\bpostflow ([a-z-]+(?: --[a-z-]+| worker)?)(?=[`\n ])", code_of(TEXT[page])))
    for words in found:
        name, *options = shlex.split(words)
        assert name in cli.main.commands, words
        known = {option for one in cli.main.commands[name].params for option in (*one.opts, *one.secondary_opts)}
        assert all(option in known or option == "worker" for option in options), words


def test_the_commands_are_found_at_all():
    assert {"doctor", "due", "restored", "migrate"} <= set(re.findall(r"postflow ([a-z-]+)", code_of(TEXT[PAGES[1]])))


def code_of(text: str) -> str:
    """What stands in backticks or in a block."""
    return "\n".join(
        [*re.findall(r"```\n(.*?)```", text, re.DOTALL), *(f"{one}`" for one in re.findall(r"`([^`\n]+)`", text))]
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_in_the_operators_pages_exists(page: str):
    known = {f"POSTFLOW_{name.upper()}" for name in config.Settings.model_fields}
    named = set(re.findall(r"\bPOSTFLOW_[A-Z_]+\b", TEXT[page]))
    assert named <= known


def test_every_query_of_the_guide_runs(db: psycopg.Connection):
    queries = re.findall(r"```sql\n(.*?)```", TEXT["troubleshooting.md"], re.DOTALL)
    assert len(queries) >= 4
    for query in queries:
        assert query.lstrip().upper().startswith("SELECT"), "the page promises that they only read"
        db.execute(query.encode())


def test_every_message_in_the_operators_pages_is_written_by_the_program():
    section = TEXT["operations.md"].partition("| message | meaning |")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    assert len(messages) >= 12
    for message in messages:
        assert f'"{message}"' in SOURCE, message


def test_every_kind_that_is_purged_is_in_the_list_and_no_other():
    section = TEXT["operations.md"].partition("| kind | when |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| ([a-z][a-z -]+) \|", section, re.MULTILINE) == [kind.name for kind in KINDS]


def test_each_row_about_the_older_scheduler_names_a_test_that_exists():
    rows = [line for line in TEXT["coming-from-the-older-postflow.md"].splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| ---", "| the older scheduler"))]
    assert len(rows) >= 50
    for row in rows:
        *_, shown_by = row.strip("| ").split(" | ")
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", shown_by)
        assert named, row
        for path, test in named:
            assert re.search(rf"^(async )?def {test}\b", (CHECKOUT / path).read_text(), re.MULTILINE), f"{path}::{test}"


def test_what_is_named_beside_the_older_scheduler_is_there_figures_files_and_programs():
    figures = set(re.findall(r"^\| `(postflow_\w+)", TEXT["operations.md"], re.MULTILINE))
    tables = {"postflow_scheduler", "postflow_django"}  # the older one's own
    for row in (line for line in TEXT["coming-from-the-older-postflow.md"].splitlines() if line.startswith("| ")):
        now = " ".join(row.strip("| ").split(" | ")[1:-1])
        assert set(re.findall(r"`(postflow_\w+)", now)) - tables <= figures, row
        for path in re.findall(r"`([\w./-]+\.(?:py|md|yml|yaml|json|lock)|Procfile|Dockerfile)`", now):
            assert (CHECKOUT / path).exists(), row
        for program in re.findall(r"`(procrastinate [^`]+)`", now):
            assert program == "procrastinate --app=worker.app.app worker", row


def test_the_rules_for_alarms_name_figures_and_labels_that_exist():
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the lint group: run `python3 run.py lint` once")
    explained = re.findall(r"^\| `(postflow_\w+)(?:\{([\w,]+)\})?`", TEXT["operations.md"], re.MULTILINE)
    labels = {name: set(of.split(",")) if of else set() for name, of in explained}
    [group] = yaml.safe_load((CHECKOUT / "docs" / "alerts.yml").read_text())["groups"]
    assert len(group["rules"]) >= 10
    for rule in group["rules"]:
        used = re.findall(r"(postflow_\w+)(?:\{(\w+))?", rule["expr"])
        assert used and rule["annotations"]["summary"], rule["alert"]
        for name, label in used:
            name = re.sub(r"_(bucket|count|sum)$", "", name) if name not in labels else name
            assert name in labels, f"{rule['alert']}: {name}"
            assert not label or label in labels[name], f"{rule['alert']}: {label}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_the_operators_pages_leads_somewhere(page: str):
    for target in re.findall(r"\]\((?!https://)([^)]+)\)", TEXT[page]):
        name, _, heading = target.partition("#")
        linked = (CHECKOUT / "docs" / name).read_text() if name else TEXT[page]
        headings = {anchor(one) for one in re.findall(r"^#+ (.*)$", linked, re.MULTILINE)}
        assert not heading or heading in headings, target


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(
    "words", ["doctor", "due --dry-run", "due", "refresh-tokens", "health worker", "restored", "migrate", "version"]
)
def test_the_guide_s_commands_end_with_a_sentence_on_an_idle_installation(
    words: str, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # workers of other tests beat elsewhere
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POSTFLOW_SECRET_KEY", "k" * 32)
    monkeypatch.setenv("POSTFLOW_ENCRYPTION_KEYS", Fernet.generate_key().decode())
    result = CliRunner().invoke(cli.main, words.split())
    assert result.output.strip()
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == (words in ("doctor", "health worker")), "no worker runs here"
