"""Which tests run which lines, and for how long: one run of them under coverage, each its own context."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest

#: No test that takes longer is asked.
SLOWER_THAN_S = 15.0


class Covering(NamedTuple):
    files: dict[str, str]  # of tests, that were measured, and a mark of what they were then
    lines: dict[str, dict[str, list[str]]]  # of a file, of a line: tests
    takes_s: dict[str, float]

    def of(self, file: str, line: int, last: int, own: tuple[str, ...]) -> list[str]:
        """Tests that run one of these lines, the quickest first. What runs when it is imported is every test's of its `own`."""
        of_file = self.lines.get(file, {})
        found = {test for at in range(line, last + 1) for test in of_file.get(str(at), [])}
        found = found or {test for test in self.takes_s if test.partition("::")[0] in own}
        return sorted(found, key=lambda test: self.takes_s[test])


class _Contexts:
    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured, self.takes_s = measured, dict[str, float]()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.measured.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.measured.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.takes_s[report.nodeid] = self.takes_s.get(report.nodeid, 0) + report.duration
        if report.failed:
            self.takes_s[report.nodeid] = float("inf")


def measure(tests: str, into: Path) -> None:
    """One file of tests. Run in a process of its own, that has imported nothing of ours yet."""
    measured = coverage.Coverage(data_file=None, include=["postflow/*"])
    measured.start()
    contexts = _Contexts(measured)
    pytest.main(["-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=line", tests], plugins=[contexts])
    measured.stop()
    data, here, known = measured.get_data(), Path.cwd(), read(into)
    usable = {test for test, takes_s in contexts.takes_s.items() if takes_s < SLOWER_THAN_S}
    for file in data.measured_files():
        of_file = known.lines.setdefault(str(Path(file).relative_to(here)), {})
        for line, names in data.contexts_by_lineno(file).items():
            of_file[str(line)] = sorted({*of_file.get(str(line), []), *(usable & set(names))})
    known.takes_s.update({test: contexts.takes_s[test] for test in usable})
    into.write_text(
        json.dumps({"files": {**known.files, tests: mark(tests)}, "lines": known.lines, "takes_s": known.takes_s})
    )


def mark(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


def read(path: Path) -> Covering:
    return Covering(**json.loads(path.read_text())) if path.exists() else Covering({}, {}, {})
