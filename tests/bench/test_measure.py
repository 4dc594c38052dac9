"""A bench of a small bundle: what is measured, who takes turns, and what becomes of those that fail."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import fcos_edge
from fcos_edge.bench import measure, throughput
from fcos_edge.bench.measure import bench_variants
from fcos_edge.bench.report import STAGES, Setting
from fcos_edge.bench.throughput import measure_variant, settings_for
from fcos_edge.bundle import Manifest, read_manifest
from fcos_edge.errors import ArtifactError
from fcos_edge.workers.variants import Variant, plan_variants, this_interpreter
from small_bundle import noise, small_checkpoint, write_bundle

ROOT = Path(fcos_edge.__file__).parent.parent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(folder, small_checkpoint(), noise(9))
    return folder


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return read_manifest(bundle)


@pytest.fixture(scope="module")
def pictures(bundle: Path) -> list[Path]:
    return sorted((bundle / "golden").glob("*.png"))


@pytest.fixture(scope="module")
def variants(manifest: Manifest) -> tuple[Variant, ...]:
    return plan_variants(manifest, [this_interpreter()], runtime="onnxruntime")[0]


def failing_python(path: Path, op: str, what: str) -> str:
    """This Python, whose worker does `what` when it is asked for `op`."""
    script = path.with_suffix(".py")
    script.write_text(
        "import os, signal, time\n"
        "from fcos_edge.workers import child\n"
        "class Failing(child.Child):\n"
        f"    def do_{op}(self, **arguments):\n"
        f"        {what}\n"
        "child.Child = Failing\n"
        "child.main()\n"
    )
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "{script}"\n')
    path.chmod(0o755)
    return str(path)


def test_bench__measures_every_stage_of_every_case(
    bundle: Path, manifest: Manifest, variants: tuple[Variant, ...], pictures: list[Path]
) -> None:
    report = bench_variants(bundle, manifest, variants, [1, 2], pictures, 3)
    assert not report.failures
    assert [(case.variant.precision, case.threads) for case in report.cases] == [
        ("fp32", 1), ("int8", 1), ("fp32", 2), ("int8", 2),
    ]  # fmt: skip
    for case in report.cases:
        assert tuple(case.latency) == STAGES
        assert case.size_bytes == (bundle / case.variant.file).stat().st_size
        assert case.load_ms is not None
        assert case.first_ms is not None
        before, rest, peak = (case.memory_mib[when] for when in ("before", "rest", "peak"))
        assert before is not None
        assert rest is not None
        assert peak is not None
        assert 0 < before < rest <= peak
        assert case.versions["onnxruntime"]
        # All have had the same calls in every round.
        assert {latency.n for latency in case.latency.values()} == {report.cases[0].latency["whole"].n}
    assert [gain.ratio.rounds for gain in report.int8_gains] == [report.rounds] * 2
    assert [(gain.slow.threads, gain.fast.threads) for gain in report.thread_gains] == [(1, 2)] * 2
    for one in report.throughput:
        assert one.best is not None
        assert one.tried[one.best][1] == max(rate for _, rate in one.tried.values()) > 0
    assert len(report.heat) == report.rounds + 2  # before and after

    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["schema"] == "fcos-edge.bench/1"
    assert document["cases"][0]["latency"]["whole"]["n"] == report.cases[0].latency["whole"].n
    assert len(document["cases"][0]["latency"]["whole"]["samples_ms"]) <= 200
    assert str(sys.executable) not in json.dumps(document)


def test_bench__asynchronous_requests_where_there_are_some(
    bundle: Path, manifest: Manifest, pictures: list[Path]
) -> None:
    variants, _ = plan_variants(manifest, [this_interpreter()], runtime="openvino")
    report = bench_variants(bundle, manifest, variants[-1:], [1], pictures, 1)
    assert list(report.throughput[0].tried) == [Setting(1, 1, is_asynchronous=True)]
    (case,) = report.cases
    assert case.size_bytes == sum(
        (bundle / case.variant.file).with_suffix(suffix).stat().st_size for suffix in (".xml", ".bin")
    )


# The operation that fails, how, and what is said of it.
FAILURES = {
    "crashes as it loads": ("load", "os.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV"),
    "refuses": ("load", "raise child.FcosEdgeError('it refuses')", "it refuses"),
    "crashes in a round": ("slice", "os.kill(os.getpid(), signal.SIGABRT)", "crashed with SIGABRT"),
    "hangs": ("slice", "time.sleep(600)", "did not answer for 6 s and was ended"),
    "our mistake": ("memory", "raise ValueError('our own')",
                    "ended by itself with exit code 1: ValueError: our own"),
    "later": ("throughput", "os._exit(3)", "ended by itself with exit code 3: it said nothing"),
}  # fmt: skip


def test_bench__those_that_fail_leave_the_others_alone(
    bundle: Path, manifest: Manifest, variants: tuple[Variant, ...], pictures: list[Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # Long enough for a busy machine to start a process.
    monkeypatch.setattr(measure, "_LEAST_TIMEOUT_S", 6.0)
    good = variants[1]
    bad = [
        replace(good, package=name, python=failing_python(tmp_path / str(index), op, what))
        for index, (name, (op, what, _)) in enumerate(FAILURES.items())
    ]
    report = bench_variants(bundle, manifest, [*bad, good], [1], pictures, 2)
    assert report.failures == {
        f"{good.file} in {name}, {'throughput' if op == 'throughput' else '1 thread'}": said
        for name, (op, _, said) in FAILURES.items()
    }
    assert [case.failure for case in report.cases] == [
        "" if op == "throughput" else said for op, _, said in FAILURES.values()
    ] + [""]  # fmt: skip
    assert report.cases[-1].latency["whole"].n > 0
    assert report.throughput[-1].tried


def test_bench__all_that_fail_are_a_report(
    bundle: Path, manifest: Manifest, variants: tuple[Variant, ...], pictures: list[Path]
) -> None:
    gone = replace(variants[0], python="/nowhere/python")
    report = bench_variants(bundle, manifest, [gone], [1], pictures, 1)
    assert list(report.failures.values()) == ["/nowhere/python cannot be started: No such file or directory"]
    assert (report.rounds, report.throughput) == (0, ())
    assert json.dumps(report.to_dict(), allow_nan=False)


def test_bench__short_of_memory_runs_one_after_the_other(
    bundle: Path, manifest: Manifest, variants: tuple[Variant, ...], pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(measure, "available_mib", lambda: 1.0)
    report = bench_variants(bundle, manifest, variants, [1], pictures, 1, has_throughput=False)
    assert [case.failure for case in report.cases] == ["", ""]
    assert all(case.latency for case in report.cases)
    assert len(report.int8_gains) == 1


def test_bench__damaged_file_is_the_users_mistake(
    bundle: Path, manifest: Manifest, variants: tuple[Variant, ...], pictures: list[Path], tmp_path: Path
) -> None:
    for path in bundle.glob("model.*"):
        (tmp_path / path.name).write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"model\.fp32\.onnx: 7 bytes, expected"):
        bench_variants(tmp_path, manifest, variants, [1], pictures, 1)


@pytest.mark.parametrize(("least_seconds", "expected"), [
    (-1000.0, [Setting(1, 2), Setting(2, 1)]),  # nothing is too short, however busy the machine
    (0.4, [Setting(1, 2)]),  # too short for another, but one there is
])  # fmt: skip
def test_throughput__tries_what_there_is_time_for(
    least_seconds: float, expected: list[Setting], bundle: Path, variants: tuple[Variant, ...],
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(throughput, "LEAST_SECONDS", least_seconds)
    found = measure_variant(variants[0], bundle / variants[0].file, pictures, 2, 0.0, 0.0, 60.0, tmp_path)
    assert list(found.tried) == expected
    assert found.load_again_ms is not None
    assert list(tmp_path.iterdir())  # what it keeps for later starts
    assert all(pictures > 0 < rate for pictures, rate in found.tried.values())


@pytest.mark.parametrize(("cores", "expected"), [
    (1, [(1, 1)]),
    (2, [(1, 2), (2, 1)]),
    (4, [(1, 4), (2, 2), (4, 1)]),
    (6, [(1, 6), (2, 3), (4, 1), (6, 1)]),
    (8, [(1, 8), (2, 4), (4, 2), (8, 1)]),
    (64, [(1, 64), (2, 32), (4, 16), (8, 8)]),
])  # fmt: skip
def test_settings__keep_all_cores_busy(cores: int, expected: list[tuple[int, int]]) -> None:
    assert [(setting.networks, setting.threads) for setting in settings_for(cores)] == expected
