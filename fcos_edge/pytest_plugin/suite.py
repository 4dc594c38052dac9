"""The tests of a bundle as pytest sees them.

    fcos-edge                 the bundle
      model.int8.onnx         an artifact
        onnxruntime           a package that runs it
          ap_drop             a gate: the test

They come after all other tests of the session. The first that runs starts what decides them all.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.errors import FcosEdgeError
from fcos_edge.pytest_plugin.judging import Judge, choose_judge
from fcos_edge.pytest_plugin.planning import Planned

ROOT = "fcos-edge"
# Of pytest-xdist: what gives all our tests to one worker.
_DISTRIBUTIONS = ("no", "loadfile", "loadgroup")


class Suite:
    """The hooks of a session that judges a bundle."""

    def __init__(self, config: pytest.Config) -> None:
        self._bundle: Path = config.getoption("fcos_bundle")
        self._wanted: list[str] | None = None
        self._judge: Judge | None = None

    def pytest_report_header(self) -> str:
        return f"fcos-edge: bundle {self._bundle}"

    # First: arguments that name our tests are no files, and mistakes are said before anything is collected.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        config = session.config
        _check_distribution(config)
        others = [argument for argument in config.args if not _is_ours(argument)]
        if len(others) < len(config.args):
            # As they were written, or beside the folder that pytest was started in.
            self._wanted = [ROOT + arg[arg.index(ROOT) + len(ROOT) :] for arg in config.args if _is_ours(arg)]
            config.args[:] = others
        try:
            self._judge = choose_judge(config)
        except (FcosEdgeError, ModuleNotFoundError) as error:
            raise pytest.UsageError(_in_one_line(error)) from None

    # First: -k, -m and the like choose from our tests, too.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        assert self._judge is not None
        planned = self._judge.planned if self._wanted is None else _chosen(self._judge.planned, self._wanted)
        node = {"name": ROOT, "nodeid": ROOT, "path": self._bundle}
        bundle = BundleNode.from_parent(session, judge=self._judge, planned=planned, **node)
        items.extend(session.genitems(bundle))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, None]:
        report = (yield).get_result()
        if isinstance(item, GateTest) and report.skipped:
            # The reason counts, not our line that skipped it.
            report.longrepr = (str(self._bundle), None, report.longrepr[2])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        report = None if self._judge is None else self._judge.report
        if report is None or terminalreporter.config.option.verbose < 0:
            return
        from fcos_edge.parity.summary import print_report

        printed = io.StringIO()
        with redirect_stdout(printed):
            print_report(report)
        terminalreporter.section("fcos-edge parity")
        terminalreporter.write(printed.getvalue())


class BundleNode(pytest.Collector):
    """All tests of the bundle."""

    def __init__(self, *, judge: Judge, planned: Sequence[Planned], **node: Any) -> None:
        super().__init__(**node)
        self.judge, self.planned = judge, planned

    def collect(self) -> Iterator[pytest.Collector]:
        for file, planned in groupby(self.planned, lambda one: one.file):
            yield ArtifactNode.from_parent(self, name=file, judge=self.judge, planned=list(planned))


class ArtifactNode(pytest.Collector):
    """Those of one file."""

    def __init__(self, *, judge: Judge, planned: Sequence[Planned], **node: Any) -> None:
        super().__init__(**node)
        self.judge, self.planned = judge, planned

    def collect(self) -> Iterator[pytest.Collector]:
        for one in self.planned:
            yield RuntimeNode.from_parent(self, name=one.package, judge=self.judge, planned=one)


class RuntimeNode(pytest.Collector):
    """Those of one file in one runtime."""

    def __init__(self, *, judge: Judge, planned: Planned, **node: Any) -> None:
        super().__init__(**node)
        self.judge, self.planned = judge, planned

    def collect(self) -> Iterator[pytest.Item]:
        for gate in self.planned.gates:
            yield GateTest.from_parent(self, name=gate, judge=self.judge, planned=self.planned)


class GateTest(pytest.Item):
    """One gate."""

    def __init__(self, *, judge: Judge, planned: Planned, **node: Any) -> None:
        super().__init__(**node)
        self.judge, self.planned = judge, planned
        self.add_marker("fcos_edge")
        if self.config.pluginmanager.hasplugin("xdist"):
            self.add_marker(pytest.mark.xdist_group(ROOT))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.planned.name}: {self.name}"

    def setup(self) -> None:
        """Run what decides. A mistake of the user's is one line, and an error, not a failure."""
        if self.planned.why:
            pytest.skip(self.planned.why)
        try:
            self.judge.gates(self.planned)
        except (FcosEdgeError, ModuleNotFoundError) as error:
            raise pytest.fail.Exception(_in_one_line(error), pytrace=False) from None

    def runtest(self) -> None:
        gates = self.judge.gates(self.planned)
        gate = gates.get(self.name)
        if gate is None:
            failed = next((name for name, one in gates.items() if not one.passed), None)
            told = f"{failed} says why" if failed else "there is nothing that it could be measured on"
            pytest.skip(f"{self.planned.name}: not measured, {told}")
        if not gate.is_judged:
            pytest.skip(f"reported and not judged: {gate.why}")
        if not gate.passed:
            command = self.judge.command(self.planned, self.name)
            lines = (
                gate.check.description,
                f"in {self.planned.name}; {self.judge.subject}",
                f"again: {command}",
            )
            pytest.fail("\n".join(lines), pytrace=False)


def _in_one_line(error: FcosEdgeError | ModuleNotFoundError) -> str:
    """A mistake that the user can mend. Raises what is none."""
    if isinstance(error, FcosEdgeError):
        return "fcos-edge: " + " ".join(str(error).splitlines())
    package = (error.name or "").partition(".")[0]
    if package in ("", "fcos_edge"):
        raise error
    return f"fcos-edge: {package} is not installed; run: pip install 'fcos-edge[parity]'"


def _check_distribution(config: pytest.Config) -> None:
    """Raise UsageError where pytest-xdist would run `parity` once in every worker."""
    chosen = config.getoption("dist", "no")
    if chosen not in _DISTRIBUTIONS:
        raise pytest.UsageError(
            f"fcos-edge: --dist {chosen} gives the tests of a bundle to several workers, of which each would"
            " measure it at the same time; give --dist loadgroup"
        )


def _is_ours(argument: str) -> bool:
    """Whether it names tests of ours, and no file: `fcos-edge::model.int8.onnx`, or `fcos-edge`."""
    path = Path(argument.partition("::")[0])
    return path.name == ROOT and not path.exists()


def _chosen(planned: Sequence[Planned], wanted: Sequence[str]) -> list[Planned]:
    """The tests at or below one of the ids `wanted`. Raises UsageError for an id that nothing has."""
    ids = {(one, gate): f"{ROOT}::{one.file}::{one.package}::{gate}" for one in planned for gate in one.gates}
    for text in wanted:
        if not any(_is_within(nodeid, text) for nodeid in ids.values()):
            raise pytest.UsageError(f"fcos-edge: {text}: no such test; --collect-only shows all")
    kept = {key for key, nodeid in ids.items() if any(_is_within(nodeid, text) for text in wanted)}
    chosen = (replace(one, gates=tuple(gate for gate in one.gates if (one, gate) in kept)) for one in planned)
    return [one for one in chosen if one.gates]


def _is_within(nodeid: str, wanted: str) -> bool:
    return nodeid == wanted or nodeid.startswith(f"{wanted}::")
