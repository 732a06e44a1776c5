"""Which tests run which lines, and for how long: one run of them under coverage, each its own context."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest

#: In the order of the file, nothing written beside it; pytest's own plugins are imported before it begins.
QUIETLY = (
    "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip
#: No test that takes longer is asked.
SLOWER_THAN_S = 15.0


class Covering(NamedTuple):
    files: dict[str, dict[str, str]]  # of tests, that were measured: marks of what they, and what they run, were then
    lines: dict[str, dict[str, list[str]]]  # of a file, of a line: tests
    takes_s: dict[str, float]

    def knows(self, tests: str, file: str) -> bool:
        """Which of these tests run which lines of the file, as both are now?"""
        then = self.files.get(tests, {})
        return then.get(tests) == mark(tests) and then.get(file) == mark(file)

    def of(self, file: str, line: int, last: int, own: tuple[str, ...]) -> list[str]:
        """Those of the files `own` that run one of these lines; what runs when it is imported is every test's. One case of
        each test comes first, the quickest before the others, then a second case of each.
        """
        of_file = self.lines.get(file, {})
        mine = [test for test in self.takes_s if test.partition("::")[0] in own]
        running = {test for at in range(line, last + 1) for test in of_file.get(str(at), [])}
        cases: dict[str, int] = {}
        order = list[tuple[int, float, str]]()
        for test in sorted(running.intersection(mine) or mine, key=lambda test: self.takes_s[test]):
            name = test.partition("[")[0]
            order.append((cases.setdefault(name, 0), self.takes_s[test], test))
            cases[name] += 1
        return [test for *_, test in sorted(order)]


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
    pytest.main([*QUIETLY, "--tb=line", tests], plugins=[contexts])
    measured.stop()
    data, here, known = measured.get_data(), Path.cwd(), read(into)
    usable = {test for test, takes_s in contexts.takes_s.items() if takes_s < SLOWER_THAN_S}
    takes_s = {test: s for test, s in known.takes_s.items() if test.partition("::")[0] != tests}
    takes_s |= {test: contexts.takes_s[test] for test in usable}
    marks = {tests: mark(tests)}
    for path in data.measured_files():
        file = str(Path(path).relative_to(here))
        marks[file] = mark(file)
        of_file = known.lines.setdefault(file, {})
        for names in of_file.values():  # what was known of these tests is old
            names[:] = [name for name in names if name.partition("::")[0] != tests]
        for line, names in data.contexts_by_lineno(path).items():
            of_file[str(line)] = sorted({*of_file.get(str(line), []), *(usable & set(names))})
    files = {**known.files, tests: marks}
    into.write_text(json.dumps({"files": files, "lines": known.lines, "takes_s": takes_s}))


def mark(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


def read(path: Path) -> Covering:
    return Covering(**json.loads(path.read_text())) if path.exists() else Covering({}, {}, {})
