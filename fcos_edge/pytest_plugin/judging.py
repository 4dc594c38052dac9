"""What the tests ask: `parity` once for all of them, or `verify` once for each artifact."""

from __future__ import annotations

import json
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fcos_edge.bundle import Manifest, read_manifest
from fcos_edge.errors import FcosEdgeError, UsageError
from fcos_edge.parity.artifact import what_verify_found
from fcos_edge.parity.baseline import read_baseline
from fcos_edge.parity.gates import Gate, fact_gate
from fcos_edge.parity.limits import Limits
from fcos_edge.parity.measure import Request, measure
from fcos_edge.parity.truth import check_classes
from fcos_edge.pytest_plugin.planning import Planned, plan, with_gates, with_golden_gates
from fcos_edge.threads import checked_threads
from fcos_edge.workers.process import TIMEOUT_S, Worker, WorkerError
from fcos_edge.writing import naming

if TYPE_CHECKING:
    from fcos_edge.parity.report import ParityReport

Gates = Mapping[str, Gate]  # by name


class Judge(ABC):
    """Knows a bundle's tests, and runs what decides them when the first of them asks."""

    planned: tuple[Planned, ...]
    subject: str  # what is judged, in words
    report: ParityReport | None = None  # of `parity`, as soon as there is one

    @abstractmethod
    def gates(self, planned: Planned) -> Gates:
        """Those of one artifact. Raises FcosEdgeError where it cannot be judged."""

    @abstractmethod
    def command(self, planned: Planned, gate: str) -> str:
        """What repeats one gate, without pytest."""


def choose_judge(config: pytest.Config) -> Judge:
    """By whether there are labelled pictures. Raises FcosEdgeError for what is wrong with the options."""
    bundle: Path = config.getoption("fcos_bundle")
    manifest = read_manifest(bundle)
    if config.getoption("fcos_data") is None:
        return GoldenJudge(config, bundle, manifest)
    return ParityJudge(config, bundle, manifest)


class GoldenJudge(Judge):
    """Each artifact against the bundle's golden pictures, in a process of its own."""

    def __init__(self, config: pytest.Config, bundle: Path, manifest: Manifest) -> None:
        variants, missing = plan(manifest, **_which(config))
        self.planned = with_golden_gates(variants) + missing
        self.subject = f"{bundle.name} on its golden pictures"
        self._bundle = bundle
        self._threads = checked_threads(config.getoption("fcos_threads"))
        self._timeout_s = config.getoption("fcos_timeout") or TIMEOUT_S
        self._gates: dict[Planned, Gates] = {}

    def gates(self, planned: Planned) -> Gates:
        if planned not in self._gates:
            self._gates[planned] = self._ask(planned)
        return self._gates[planned]

    def command(self, planned: Planned, gate: str) -> str:
        assert planned.variant is not None
        command = [planned.variant.python, "-m", "fcos_edge", "verify", str(self._bundle)]
        return shlex.join([*command, "--runtime", planned.variant.runtime, "--threads", str(self._threads)])

    def _ask(self, planned: Planned) -> Gates:
        variant = planned.variant
        assert variant is not None
        failure, found = "", None
        try:
            with Worker(variant.python, self._timeout_s) as worker:
                found = worker.call(
                    "verify", bundle=str(self._bundle), file=variant.file, runtime=variant.runtime,
                    threads=self._threads,
                )  # fmt: skip
        except WorkerError as error:
            failure = str(error)
        gates = {"runs": fact_gate("runs", "artifact", failure)}
        if found is not None:
            gates["golden"] = fact_gate("golden", "golden pictures", what_verify_found(found))
        return gates


class ParityJudge(Judge):
    """All artifacts against the reference on labelled pictures, together."""

    def __init__(self, config: pytest.Config, bundle: Path, manifest: Manifest) -> None:
        variants, missing = plan(manifest, **_which(config))
        self._arguments = _given(config)
        self._request = _request(config)
        self._baseline: Path | None = config.getoption("fcos_baseline")
        self._json: Path | None = config.getoption("fcos_json")
        limits = self._request.limits
        planned = with_gates(
            variants, has_baseline=self._baseline is not None,
            has_latency_limit=limits.max_latency_ms is not None,
        )  # fmt: skip
        self.planned = planned + missing
        self.subject = f"{bundle.name} on {self._request.data.name}/{self._request.split}"
        self._check(manifest)
        self._gates: Mapping[str, Gates] | None = None
        self._failure: FcosEdgeError | None = None

    def gates(self, planned: Planned) -> Gates:
        if self._failure is not None:
            raise self._failure
        if self._gates is None:
            try:
                self._gates = self._run()
            except FcosEdgeError as error:
                self._failure = error
                raise
            except Exception as error:  # ours: its traceback is shown once
                self._failure = UsageError(
                    f"not measured: {type(error).__name__}, which an earlier test shows"
                )
                raise
        return self._gates[planned.name]

    def command(self, planned: Planned, gate: str) -> str:
        """With no more artifacts than the gate needs."""
        assert planned.variant is not None
        arguments = [*self._arguments]
        for name, value in (
            ("--runtime", planned.variant.runtime),
            ("--precisions", planned.variant.precision),
        ):
            if name in arguments:
                place = arguments.index(name)
                del arguments[place : place + 2]
            if gate != "runtimes_agree" and not (gate.endswith("latency_ratio") and name == "--precisions"):
                arguments += [name, value]
        return shlex.join(["fcos-edge", "parity", *arguments])

    def _check(self, manifest: Manifest) -> None:
        """What can be known at once: before other tests run, and in one line for all gates."""
        from fcos_edge.train.evaluation import evaluate  # noqa: F401 (needs the evaluation's packages)

        if self._baseline is not None:
            read_baseline(self._baseline)
        if self._json is not None:
            _check_place(self._json)
        classes = self._request.classes or manifest.spec.classes
        check_classes(self._request.data, self._request.split, classes, False, lambda line: None)

    def _run(self) -> Mapping[str, Gates]:
        self.report = measure(self._request, (), self._baseline)
        if self._json is not None:
            _write_report(self._json, self.report)
        found = {one.name: {gate.name: gate for gate in one.gates} for one in self.report.artifacts}
        for one in self.planned:
            if unknown := found.get(one.name, {}).keys() - set(one.gates):
                raise AssertionError(f"{one.name}: there is no test for the gates {sorted(unknown)}")
        return found


def _which(config: pytest.Config) -> dict[str, Any]:
    return {
        "runtime": config.getoption("fcos_runtime"),
        "precisions": config.getoption("fcos_precisions"),
        "pythons": tuple(config.getoption("fcos_python")),
        "has_onnx_in_openvino": config.getoption("fcos_onnx_in_openvino"),
    }


def _request(config: pytest.Config) -> Request:
    """What was left out has the defaults of `parity`."""
    given = {
        "split": config.getoption("fcos_split"),
        "classes": config.getoption("fcos_classes"),
        "checkpoint": config.getoption("fcos_checkpoint"),
        "threads": config.getoption("fcos_threads"),
        "timeout_s": config.getoption("fcos_timeout"),
        "draws": config.getoption("fcos_draws"),
    }
    request = Request(bundle=config.getoption("fcos_bundle"), data=config.getoption("fcos_data"))
    limits = replace(Limits(), **dict(config.getoption("fcos_limit")))
    values = {name: value for name, value in given.items() if value is not None}
    return replace(request, limits=limits, **_which(config), **values)


def _given(config: pytest.Config) -> tuple[str, ...]:
    """The options as `fcos-edge parity` takes them."""

    def words(value: object) -> str:
        return ",".join(value) if isinstance(value, tuple) else str(value)

    arguments = [str(config.getoption("fcos_bundle"))]
    for name in ("data", "split", "classes", "checkpoint", "runtime", "precisions", "threads", "timeout",
                 "baseline"):  # fmt: skip
        value = config.getoption(f"fcos_{name}")
        if value is not None:
            arguments += [f"--{name}", words(value)]
    for package, python in config.getoption("fcos_python"):
        arguments += ["--python", f"{package}={python}"]
    if config.getoption("fcos_onnx_in_openvino"):
        arguments.append("--onnx-in-openvino")
    for name, number in config.getoption("fcos_limit"):
        arguments += [f"--{name.replace('_', '-')}", f"{number:g}"]
    return tuple(arguments)


def _check_place(path: Path) -> None:
    """Before the work, not after it."""
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--fcos-json {path}: not the path of a file in a folder that is there")
    part = path.with_name(f".{path.name}.part")
    with naming(path, "choose another --fcos-json"):
        part.touch()
        part.unlink()


def _write_report(path: Path, report: ParityReport) -> None:
    """Whole or not at all, in the place of an earlier one."""
    part = path.with_name(f".{path.name}.part")
    try:
        with naming(path, "choose another --fcos-json"):
            document = json.dumps(report.to_dict(), indent=1, sort_keys=True, allow_nan=False)
            part.write_text(document + "\n", encoding="utf-8")
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
