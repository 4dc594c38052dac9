"""Artifacts that crash, hang, lie or are damaged beside sound ones: each its own failure; the rest goes on.

All of them run together, once, on eight pictures in blocks of three.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.bundle import read_manifest
from fcos_edge.errors import ArtifactError
from fcos_edge.parity import running
from fcos_edge.parity.artifact import ArtifactParity
from fcos_edge.parity.limits import Limits
from fcos_edge.parity.live import Options
from fcos_edge.parity.reference import Reference
from fcos_edge.parity.report import build_artifacts
from fcos_edge.parity.running import AllRuns, Compared, run_variants
from fcos_edge.parity.truth import read_truth
from fcos_edge.workers.variants import Variant
from tests.few_pictures import COUNT
from tests.parity import faulty_workers
from tests.parity.faulty_workers import own_children, write_worker

FP32 = Variant("model.fp32.onnx", "fp32", "onnxruntime", "onnxruntime")
INT8 = Variant("model.int8.onnx", "int8", "onnxruntime", "onnxruntime")
# Package -> the fault of its worker.
FAULTS = {
    "crashes-loading": faulty_workers.CRASH_WHILE_LOADING,
    "crashes-later": faulty_workers.CRASH_IN_THE_SECOND_BLOCK,
    "hangs": faulty_workers.HANG_IN_THE_SECOND_BLOCK,
    "crashes-timed": faulty_workers.CRASH_WHILE_TIMED,
    "nan": faulty_workers.NOT_A_NUMBER,
    "shapes": faulty_workers.WRONG_SHAPES,
    "refuses": faulty_workers.REFUSES_TO_LOAD,
}
# Of a block of three small pictures, and of loading: half a second where nobody disturbs.
TIMEOUT_S = 5.0


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where temporary folders go."""
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def runs(
    small_bundle: Path, few_pictures: Path, scratch: Path, tmp_path_factory: pytest.TempPathFactory
) -> AllRuns:
    folder = tmp_path_factory.mktemp("faulty")
    bundle = shutil.copytree(small_bundle, folder / "bundle")
    shutil.copy(bundle / "model.int8.onnx", bundle / "damaged.onnx")
    with (bundle / "damaged.onnx").open("ab") as file:
        file.write(b"\0")
    manifest = read_manifest(bundle)
    (int8,) = (artifact for artifact in manifest.artifacts if artifact.precision == "int8")
    damaged = replace(int8, files=(replace(int8.files[0], name="damaged.onnx"),))
    manifest = replace(manifest, artifacts=(*manifest.artifacts, damaged))
    faulty = [
        replace(INT8, package=name, python=write_worker(folder / name, body)) for name, body in FAULTS.items()
    ]
    variants = [
        FP32, *faulty, replace(INT8, package="absent", python=str(folder / "none")),
        replace(INT8, file="damaged.onnx"), INT8,
    ]  # fmt: skip
    pictures = sorted((few_pictures / "val").iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_BLOCK", 3)
        patch.setattr(running, "_ROUNDS", 3)
        found = run_variants(
            bundle, manifest, variants, Reference(FP32, bundle / FP32.file, "it is"), pictures,
            Options(1, TIMEOUT_S),
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def artifacts(runs: AllRuns, few_pictures: Path) -> tuple[ArtifactParity, ...]:
    labelled = read_truth(few_pictures, "val", read_spec_classes(runs))
    assert runs.reference is not None
    # On a busy machine the slower of two tiny networks is chance.
    limits = Limits(max_latency_ratio=1000)
    return build_artifacts(runs, runs.reference, labelled, limits, 20)[2]


def read_spec_classes(runs: AllRuns) -> tuple[str, ...]:
    assert runs.reference is not None
    assert runs.reference.spec is not None
    return runs.reference.spec.classes


def of(runs: AllRuns, package: str) -> Compared:
    (found,) = (one for one in runs.artifacts if one.run.variant.package == package)
    return found


@pytest.mark.parametrize(("package", "failure", "pictures"), [
    ("crashes-loading", "crashed with SIGSEGV", 0),
    ("crashes-later", "crashed with SIGABRT", 3),
    ("hangs", f"did not answer for {TIMEOUT_S:g} s and was ended", 3),
    ("crashes-timed", "ended by itself with exit code 1: MemoryError: no room", COUNT),
    ("shapes", "logits: found shape (1, 2, 8), the spec wants (1, 257, 8)", 0),
    ("refuses", "model: is of another world; export again", 0),
    ("absent", "none cannot be started: No such file or directory", 0),
])  # fmt: skip
def test_failure__is_said_in_words(runs: AllRuns, package: str, failure: str, pictures: int) -> None:
    run = of(runs, package).run
    assert failure in run.failure
    assert "\n" not in run.failure
    assert len(run.detections) == pictures  # what it found until then


def test_failure__a_damaged_file_is_never_loaded(runs: AllRuns) -> None:
    (damaged,) = (one.run for one in runs.artifacts if one.run.variant.file == "damaged.onnx")
    assert "damaged.onnx: " in damaged.failure
    assert damaged.failure.endswith("; copy the bundle again")
    assert (damaged.load_ms, damaged.spec, damaged.bytes > 0) == (None, None, True)


def test_rest__goes_on(runs: AllRuns) -> None:
    sound = [one for one in runs.artifacts if not one.run.failure]
    assert [one.run.variant.name for one in sound] == [
        "model.fp32.onnx in onnxruntime", "model.int8.onnx in nan", "model.int8.onnx in onnxruntime",
    ]  # fmt: skip
    for one in sound:
        assert len(one.run.detections) == COUNT
        assert [len(calls) for calls in one.run.rounds_ms] == [8, 8, 8]
        assert one.run.verify is not None
        assert len(one.raw) == 3 + 15  # branches, and outputs of five levels
    assert runs.reference is not None
    assert not runs.reference.rounds_ms  # nobody reads its times


def test_rest__the_reference_against_itself_and_int8_against_it(runs: AllRuns) -> None:
    fp32, int8 = (
        next(one for one in runs.artifacts if one.run.variant == variant) for variant in (FP32, INT8)
    )
    assert all(figure.max_abs == 0 for figure in fp32.raw)
    assert all(0 < figure.relative < 1 for figure in int8.raw)
    assert fp32.one_bit is None
    assert int8.one_bit is not None
    assert len(int8.one_bit.detections) == COUNT
    assert runs.noise is not None
    assert len(runs.noise.detections) == COUNT
    counts = {one.count for one in int8.raw if one.name == "logits"}
    assert counts == {COUNT * len(read_spec_classes(runs)) * (12 * 16 + 6 * 8 + 3 * 4 + 2 * 2 + 1)}


def test_gates__each_failure_is_that_artifacts(artifacts: tuple[ArtifactParity, ...]) -> None:
    failed = {one.name: {gate.name for gate in one.failed} for one in artifacts if one.failed}
    lost = {f"model.int8.onnx in {name}" for name in (*FAULTS, "absent") if name != "nan"}
    assert {name for name, gates in failed.items() if "runs" in gates} == {
        *lost, "damaged.onnx in onnxruntime"
    }  # fmt: skip
    assert {"raw_outputs", "matched", "ap_drop"} <= failed["model.int8.onnx in nan"]
    assert set(failed) == {*lost, "damaged.onnx in onnxruntime", "model.int8.onnx in nan"}


def test_json__has_the_same_keys_and_no_nan(runs: AllRuns, artifacts: tuple[ArtifactParity, ...]) -> None:
    assert runs.reference is not None
    names = [f"{number}.jpg" for number in range(COUNT)]
    documents = [one.to_dict(runs.reference, names) for one in artifacts]
    for one, document in zip(artifacts, documents, strict=True):
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        assert document["passed"] == (not one.failed)
        assert document.keys() == documents[0].keys()
    pairs = [pair.to_dict() for pair in runs.pairs]
    assert json.loads(json.dumps(pairs, allow_nan=False)) == pairs


def test_pairs__of_all_int8_artifacts(runs: AllRuns) -> None:
    whole = next(
        pair for pair in runs.pairs
        if (pair.first, pair.second) == ("model.int8.onnx in crashes-timed", "model.int8.onnx in onnxruntime")
    )  # fmt: skip
    assert (whole.unequal, whole.mean_logit_difference) == (0, 0)
    nan = next(pair for pair in runs.pairs if pair.first == "model.int8.onnx in nan")
    assert np.isnan(nan.mean_logit_difference)


def test_end__no_process_and_no_file_is_left(runs: AllRuns, scratch: Path) -> None:
    assert runs.artifacts
    assert not list(scratch.iterdir())
    assert not own_children()


@pytest.mark.parametrize(("body", "said"), [
    (faulty_workers.CRASH_WHILE_LOADING, "crashed with SIGSEGV"),
    (faulty_workers.CRASH_IN_THE_SECOND_BLOCK, "crashed with SIGABRT"),
    (faulty_workers.REFUSES_TO_LOAD, "model: is of another world"),
])  # fmt: skip
def test_reference__without_it_nothing_is_judged(
    small_bundle: Path, few_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    body: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(running, "_BLOCK", 2)
    python = write_worker(tmp_path / "python", body)
    reference = Reference(replace(FP32, python=python), small_bundle / FP32.file, "it is")
    pictures = sorted((few_pictures / "val").iterdir())
    with pytest.raises(ArtifactError, match=f"the reference, model.fp32.onnx in onnxruntime: {said}") as end:
        run_variants(
            small_bundle, read_manifest(small_bundle), [INT8], reference, pictures,
            Options(1),
        )  # fmt: skip
    assert "nothing can be judged without it" in str(end.value)
    assert "\n" not in str(end.value)
    assert not own_children()


def test_picture__that_vanishes_on_the_way_is_said(
    small_bundle: Path, few_pictures: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(few_pictures / "val", tmp_path / "val")
    pictures = sorted(data.iterdir())
    pictures[5].unlink()
    found = run_variants(small_bundle, read_manifest(small_bundle), [INT8], None, pictures, Options(1))
    (one,) = found.artifacts
    assert (found.reference, one.run.detections, one.raw) == (None, (), ())
    assert one.run.failure.startswith(f"{pictures[5]}: ")
