"""What a bench found, as values, and as the JSON document `fcos-edge.bench/1`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fcos_edge.bench.figures import Latency, Ratio
from fcos_edge.workers.variants import Variant

SCHEMA = "fcos-edge.bench/1"
STAGES = ("letterbox", "inference", "postprocess", "whole")


@dataclass(frozen=True)
class CaseReport:
    """One artifact in one runtime with one number of threads.

    size_bytes  of all its files
    versions    of what ran it
    load_ms     from the file to a network that is ready, in a fresh process: for the fewest threads as on a
                machine's first start, for others with what that may have kept
    first_ms    its first inference
    memory_mib  resident memory of its process: `before` loading, at `rest`, at `peak`
    latency     stage -> milliseconds; empty where it failed before
    failure     what became of it, one line; "" where nothing did
    """

    variant: Variant
    threads: int
    size_bytes: int
    versions: Mapping[str, str] = field(default_factory=dict)
    load_ms: float | None = None
    first_ms: float | None = None
    memory_mib: Mapping[str, float | None] = field(default_factory=dict)
    latency: Mapping[str, Latency] = field(default_factory=dict)
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            **describe_variant(self.variant),
            "threads": self.threads,
            "size_bytes": self.size_bytes,
            "versions": dict(self.versions),
            "load_ms": self.load_ms,
            "first_ms": self.first_ms,
            "memory_mib": dict(self.memory_mib),
            "latency": {stage: latency.to_dict() for stage, latency in self.latency.items()},
            "failure": self.failure,
        }


@dataclass(frozen=True)
class Setting:
    """A way to run many pictures: so many networks at the same time, of so many threads each."""

    networks: int
    threads: int
    is_asynchronous: bool = False

    @property
    def description(self) -> str:
        """`2 networks of 1 thread, asynchronous`."""
        networks = "1 network" if self.networks == 1 else f"{self.networks} networks"
        return f"{networks} of {count_threads(self.threads)}" + ", asynchronous" * self.is_asynchronous


@dataclass(frozen=True)
class ThroughputReport:
    """Pictures a second of a variant, from picture to detections.

    tried          setting -> pictures, and pictures a second
    load_again_ms  to load it in a fresh process on a later start, with what the first has kept
    """

    variant: Variant
    tried: Mapping[Setting, tuple[int, float]] = field(default_factory=dict)
    load_again_ms: float | None = None
    failure: str = ""

    @property
    def best(self) -> Setting | None:
        return max(self.tried, key=lambda setting: self.tried[setting][1], default=None)

    def to_dict(self) -> dict[str, Any]:
        tried = [
            {**vars(setting), "pictures": pictures, "pictures_per_second": rate}
            for setting, (pictures, rate) in self.tried.items()
        ]
        best = max(tried, key=lambda one: one["pictures_per_second"], default=None)
        return {
            **describe_variant(self.variant),
            "best": best,
            "tried": tried,
            "load_again_ms": self.load_again_ms,
            "failure": self.failure,
        }


@dataclass(frozen=True)
class Gain:
    """How many times as fast the second of two cases is at inference."""

    slow: CaseReport
    fast: CaseReport
    ratio: Ratio

    def to_dict(self) -> dict[str, Any]:
        def named(case: CaseReport) -> dict[str, Any]:
            return {"file": case.variant.file, "threads": case.threads}

        package = {"package": self.fast.variant.package}
        return {**package, "slow": named(self.slow), "fast": named(self.fast), **vars(self.ratio)}


@dataclass(frozen=True)
class BenchReport:
    """What `bench_variants` found.

    bundle           its folder's name
    conditions       of measure_conditions
    int8_gains       int8 beside fp32 of the same format, package and threads
    thread_gains     more threads beside the next smaller number
    heat             of measure_heat, each with `s`, seconds from the start: before, after every round, after
    speed_trend      time of a call in the last third / first third of the rounds; None for few rounds
    remarks          what should be said in words
    """

    bundle: str
    conditions: Mapping[str, Any]
    pictures: tuple[str, ...]
    seconds: float
    took_s: float
    warm_up_calls: int
    rounds: int
    cases: tuple[CaseReport, ...]
    int8_gains: tuple[Gain, ...] = ()
    thread_gains: tuple[Gain, ...] = ()
    throughput: tuple[ThroughputReport, ...] = ()
    heat: tuple[Mapping[str, Any], ...] = ()
    speed_trend: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def failures(self) -> dict[str, str]:
        """`model.int8.onnx in onnxruntime, 2 threads` -> what became of it."""
        found = {
            f"{case.variant.name}, {count_threads(case.threads)}": case.failure
            for case in self.cases
            if case.failure
        }
        found |= {f"{one.variant.name}, throughput": one.failure for one in self.throughput if one.failure}
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "bundle": self.bundle,
            "conditions": dict(self.conditions),
            "pictures": list(self.pictures),
            "seconds": self.seconds,
            "took_s": self.took_s,
            "warm_up_calls": self.warm_up_calls,
            "rounds": self.rounds,
            "cases": [case.to_dict() for case in self.cases],
            "int8_gains": [gain.to_dict() for gain in self.int8_gains],
            "thread_gains": [gain.to_dict() for gain in self.thread_gains],
            "throughput": [one.to_dict() for one in self.throughput],
            "heat": list(map(dict, self.heat)),
            "speed_trend": self.speed_trend,
            "remarks": list(self.remarks),
        }


def describe_variant(variant: Variant) -> dict[str, Any]:
    """Whose figures these are, as JSON values."""
    return {
        "file": variant.file,
        "precision": variant.precision,
        "runtime": variant.runtime,
        "package": variant.package,
    }


def count_threads(threads: int) -> str:
    """`1 thread`, `2 threads`."""
    return "1 thread" if threads == 1 else f"{threads} threads"
