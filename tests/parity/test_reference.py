"""Which reference is chosen, and which are refused."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fcos_edge import embedded
from fcos_edge.bundle import Manifest, read_manifest, sha256_of
from fcos_edge.errors import ArtifactError, CheckpointError, UsageError
from fcos_edge.parity.reference import find_reference
from fcos_edge.workers.variants import Variant

FP32 = Variant("model.fp32.onnx", "fp32", "onnxruntime", "onnxruntime")
INT8 = Variant("model.int8.onnx", "int8", "onnxruntime", "onnxruntime")
OPENVINO = replace(FP32, runtime="openvino", package="openvino")
TFLITE_RUNTIME = replace(FP32, package="tflite-runtime")


@pytest.fixture
def manifest(small_bundle: Path) -> Manifest:
    return read_manifest(small_bundle)


def of_embedded(manifest: Manifest) -> Manifest:
    digest = sha256_of(embedded.CHECKPOINT)
    provenance = {**manifest.spec.provenance, "checkpoint_sha256": digest}
    return replace(manifest, spec=replace(manifest.spec, provenance=provenance))


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)


def test_torch__the_embedded_checkpoint_where_the_bundle_is_of_it(
    small_bundle: Path, manifest: Manifest
) -> None:
    found = find_reference(small_bundle, of_embedded(manifest), [INT8], None)
    assert (found.variant.runtime, found.path) == ("torch", embedded.CHECKPOINT)
    assert (found.variant.name, found.why) == (
        f"{embedded.CHECKPOINT.name} in torch",
        "the checkpoint in PyTorch",
    )


def test_torch__the_checkpoint_that_is_named(small_bundle: Path, manifest: Manifest) -> None:
    checkpoint = small_bundle.with_name("small.safetensors")
    found = find_reference(small_bundle, manifest, [FP32], checkpoint)
    assert (found.variant.runtime, found.path) == ("torch", checkpoint)


@pytest.mark.parametrize(("variants", "package"), [
    ([INT8, FP32], "onnxruntime"),
    ([OPENVINO, FP32], "onnxruntime"),  # the plainest of them, wherever it stands
    ([TFLITE_RUNTIME, OPENVINO], "openvino"),
    ([TFLITE_RUNTIME], "tflite-runtime"),
])  # fmt: skip
def test_float__where_the_checkpoint_is_not_at_hand(
    small_bundle: Path, manifest: Manifest, variants: Sequence[Variant], package: str
) -> None:
    found = find_reference(small_bundle, manifest, variants, None)
    assert (found.variant.package, found.path) == (package, small_bundle / "model.fp32.onnx")
    assert found.why == f"model.fp32.onnx in {package}, since no --checkpoint was given"


@pytest.mark.usefixtures("without_torch")
def test_float__where_torch_is_not(small_bundle: Path, manifest: Manifest) -> None:
    found = find_reference(small_bundle, of_embedded(manifest), [FP32], None)
    assert found.why == "model.fp32.onnx in onnxruntime, since PyTorch is not installed"
    with pytest.raises(UsageError, match=r"--checkpoint: runs in PyTorch, which is not installed"):
        find_reference(small_bundle, of_embedded(manifest), [FP32], embedded.CHECKPOINT)


@pytest.mark.parametrize("variants", [[], [INT8], [replace(FP32, precision="fp16")]])
def test_nothing__is_one_line(small_bundle: Path, manifest: Manifest, variants: Sequence[Variant]) -> None:
    with pytest.raises(UsageError, match="nothing to compare with: no --checkpoint was given, and no fp32"):
        find_reference(small_bundle, manifest, variants, None)


def test_checkpoint__of_another_model_is_refused(
    small_bundle: Path, manifest: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"is not the checkpoint that .* was exported from"):
        find_reference(small_bundle, manifest, [FP32], embedded.CHECKPOINT)
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="no such file; give the checkpoint that was exported"):
            find_reference(small_bundle, manifest, [FP32], path)


def test_float__a_damaged_file_is_nobodys_reference(
    small_bundle: Path, manifest: Manifest, tmp_path: Path
) -> None:
    bundle = shutil.copytree(small_bundle, tmp_path / "bundle")
    content = bytearray((bundle / "model.fp32.onnx").read_bytes())
    content[len(content) // 2] ^= 1  # it loads, and one weight is another
    (bundle / "model.fp32.onnx").write_bytes(content)
    # Another file that is whole takes its place: here int8 plays a float of another format.
    other = replace(OPENVINO, file="model.int8.onnx")
    assert find_reference(bundle, manifest, [FP32, other], None).variant == other
    with pytest.raises(ArtifactError, match=r"model\.fp32\.onnx: sha256 differs"):
        find_reference(bundle, manifest, [FP32, OPENVINO], None)
