"""Files that do not fit the graph boundary, and what is particular to one runtime."""

from __future__ import annotations

import _ctypes
import sys
import types
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from fcos_edge.artifact import ArtifactInfo, OutputInfo, dump_document
from fcos_edge.boundary import OutputLayout, Port
from fcos_edge.errors import ArtifactError, FcosEdgeError, RuntimeUnavailableError
from fcos_edge.loading import open_artifact
from fcos_edge.runtime import AsyncRuntime, find_runtime, installed_package
from fcos_edge.spec import ModelSpec
from fcos_edge.trailer import append_trailer
from tests.runtimes import models
from tests.runtimes.models import (
    FILE_ORDER,
    SPEC,
    float_info,
    pictures,
    write_onnx,
    write_openvino,
    write_tflite,
)


def needs(runtime: str, builder: str) -> None:
    if installed_package(find_runtime(runtime)) is None:
        pytest.skip(f"{runtime} is not installed")
    pytest.importorskip(builder)


def with_classes(*classes: str) -> ModelSpec:
    return replace(SPEC, classes=classes)


def info_for(spec: ModelSpec) -> ArtifactInfo:
    return replace(float_info("onnx"), operating_thresholds=(0.5,) * len(spec.classes))


# --- outputs and inputs of another shape, name or dtype

RENAMED = {"logits_p3": "ltrb_p3", "ltrb_p3": "logits_p3"}
THREE = with_classes("ant", "bee", "cat")
WIDER = replace(SPEC, input_hw=(64, 128))
COARSER = replace(SPEC, strides=(16, 32))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rename": {"logits_p4": "scores"}}, "output logits_p4 is missing"),
        ({"spec": THREE, "info": info_for(THREE)}, r"logits_p3 is \[1, 8, 12, 4\], expected \[N, 8, 12, 3\]"),
        ({"spec": WIDER}, r"input is \[1, 64, 96, 3\], expected \[N, 64, 128, 3\]"),
        ({"input_dtype": "float32"}, "input is float32, expected uint8"),
    ],
)
def test_onnx__that_does_not_fit_is_one_line(
    tmp_path: Path, runtime: str, arguments: dict[str, Any], message: str
) -> None:
    needs(runtime, "onnx")
    path = write_onnx(tmp_path / "model.onnx", **arguments)
    with pytest.raises(ArtifactError, match=message) as caught:
        open_artifact(path, runtime)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_onnx__names_decide_where_shapes_coincide(tmp_path: Path, runtime: str) -> None:
    needs(runtime, "onnx")
    images = pictures(1)
    expected = models.expected_outputs(images)
    first_level = SPEC.level_hw[0][0] * SPEC.level_hw[0][1]
    loaded = open_artifact(write_onnx(tmp_path / "model.onnx", rename=RENAMED), runtime, threads=1)
    raw = loaded.runtime.run(images)
    np.testing.assert_array_equal(raw.ltrb.values[:, :first_level], expected["logits"][:, :first_level])
    np.testing.assert_array_equal(raw.logits.values[:, first_level:], expected["logits"][:, first_level:])
    loaded.close()


FLOAT_PORTS = {
    f"{branch}_{level}": Port((1, *hw, channels), np.float32)
    for level, hw in zip(SPEC.level_names, SPEC.level_hw, strict=True)
    for branch, channels in models.CHANNELS.items()
}


def int8_info(zero_point: int = 0, *names: str) -> ArtifactInfo:
    quantized = {name: OutputInfo(name, 0.1, zero_point) for name in names}
    outputs = tuple(quantized.get(name, OutputInfo(name)) for name in FILE_ORDER)
    return replace(float_info("tflite"), outputs=outputs)


@pytest.mark.parametrize(
    ("info", "ports", "message"),
    [
        (int8_info(), {"ltrb_p3": Port((1, 8, 12, 4), np.int8)}, "is int8, recorded is float32"),
        (int8_info(0, "ltrb_p3"), {}, "is float32, recorded is int8 or uint8"),
        (int8_info(200, "ltrb_p3"), {"ltrb_p3": Port((1, 8, 12, 4), np.int8)}, "zero point 200"),
        (int8_info(-1, "ltrb_p3"), {"ltrb_p3": Port((1, 8, 12, 4), np.uint8)}, "zero point -1"),
        (int8_info(0, "ltrb_p3"), {"ltrb_p3": Port((1, 8, 12, 4), np.int8)}, "levels of ltrb differ"),
        (int8_info(), {"ltrb_p3": Port((1, 8, 12, 4), np.float16)}, "is float16, recorded is float32"),
        (int8_info(), {"ltrb_p3": Port((1, 4, 8, 12), np.float32)}, r"is \[1, 4, 8, 12\]"),  # channels first
        (int8_info(), {"ltrb_p3": Port((1, None, 12, 4), np.float32)}, r"is \[1, \?, 12, 4\]"),
        (int8_info(), {"ltrb_p3": Port((1, 96, 4), np.float32)}, r"is \[1, 96, 4\]"),  # flattened
    ],
)
def test_output_layout__rejects(info: ArtifactInfo, ports: dict[str, Port], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        OutputLayout(Path("model"), SPEC, info, {**FLOAT_PORTS, **ports})


def test_output_layout__one_picture_is_written_without_a_copy() -> None:
    outputs = OutputLayout(Path("model"), SPEC, float_info("onnx"), FLOAT_PORTS).allocate(1)
    for name, target in outputs.targets.items():
        assert target.flags.c_contiguous
        assert any(np.shares_memory(target, branch.values) for branch in outputs.raw), name


# --- TFLite

OTHER_ORDER = tuple(sorted(FILE_ORDER))


def recorded(order: tuple[str, ...], io: str = "int8", **first: Any) -> list[dict[str, Any]]:
    """The outputs of a document in `order`, with values of the first changed."""
    from tests.runtimes.tflite_model import is_quantized, output_quantization

    outputs = []
    for name in order:
        scale, zero_point = output_quantization(name) if is_quantized(io) else (None, None)
        outputs.append({"name": name, "scale": scale, "zero_point": zero_point})
    outputs[0].update(first)
    return outputs


@pytest.mark.parametrize(
    ("io", "outputs", "message"),
    [
        ("int8", lambda: recorded(FILE_ORDER, scale=0.05), r"output ltrb_p4 has scale 0\.03"),
        ("int8", lambda: recorded(FILE_ORDER, zero_point=7), "recorded are .* and 7"),
        ("int8", lambda: recorded(FILE_ORDER, "float32"), "is int8, recorded is float32"),
        ("float32", lambda: recorded(FILE_ORDER, "int8"), "is float32, recorded is int8"),
        ("int8", lambda: recorded(OTHER_ORDER), "are not the recorded"),  # our names, another order
    ],
)
def test_tflite__document_of_another_file_is_one_line(
    tmp_path: Path, io: str, outputs: Callable[[], list[dict[str, Any]]], message: str
) -> None:
    needs("tflite", "ai_edge_litert")
    path = write_tflite(tmp_path / "model.tflite", io, outputs=outputs())
    with pytest.raises(ArtifactError, match=message) as caught:
        open_artifact(path)
    assert "\n" not in str(caught.value)


def test_tflite__foreign_tensor_names_go_by_recorded_order(tmp_path: Path) -> None:
    needs("tflite", "ai_edge_litert")
    from tests.runtimes.tflite_model import tflite_info, tflite_model

    names = {name: f"StatefulPartitionedCall:{index}" for index, name in enumerate(OTHER_ORDER)}
    path = tmp_path / "model.tflite"
    document = dump_document(SPEC, tflite_info("float32"))
    path.write_bytes(append_trailer(tflite_model("float32", names=names), document))
    loaded, images = open_artifact(path, threads=1), pictures(1)
    expected = models.expected_outputs(images)
    np.testing.assert_array_equal(loaded.runtime.run(images).logits.values, expected["logits"])
    loaded.close()


def test_tflite__without_delegates_library(tmp_path: Path) -> None:
    needs("tflite", "ai_edge_litert")
    library = tmp_path / "libdelegate.so"
    library.write_bytes(b"no library")
    with pytest.raises(RuntimeUnavailableError, match=r"libdelegate\.so"):
        open_artifact(write_tflite(tmp_path / "model.tflite"), device=str(library))


def test_tflite__library_that_is_no_delegate(tmp_path: Path) -> None:
    needs("tflite", "ai_edge_litert")
    with pytest.raises(RuntimeUnavailableError, match="it is no TFLite delegate; give the path"):
        open_artifact(write_tflite(tmp_path / "model.tflite"), device=_ctypes.__file__)


@pytest.mark.parametrize(
    ("device", "is_here"),
    [
        ("CPU", True),
        ("auto", True),
        ("AUTO:-GPU", True),
        ("HETERO:CPU", True),
        ("BATCH:CPU(2)", True),
        ("GPU.1", False),
        ("HETERO:GPU,CPU", False),
        ("warp:CPU", False),
    ],
)
def test_openvino__devices_by_name(device: str, is_here: bool) -> None:
    pytest.importorskip("openvino")
    from fcos_edge.runtimes.openvino import _check_device

    with nullcontext() if is_here else pytest.raises(RuntimeUnavailableError, match=r"here; it has CPU$"):
        _check_device(device, ["CPU"])


def test_tflite_runtime__under_numpy_2_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert")
    path = write_tflite(tmp_path / "model.tflite")
    # As where only tflite-runtime 2.14 is installed: it cannot share an environment with NumPy 2.
    package, interpreter = types.ModuleType("tflite_runtime"), types.ModuleType("tflite_runtime.interpreter")
    package.__dict__.update(__version__="2.14.0", interpreter=interpreter)
    interpreter.__dict__.update(Interpreter=None, load_delegate=None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", package)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", interpreter)
    monkeypatch.setattr(np, "__version__", "2.4.6")
    with pytest.raises(RuntimeUnavailableError, match=r"2\.14\.0 cannot work with NumPy 2\.4\.6.*numpy<2"):
        open_artifact(path)


# --- OpenVINO


def test_openvino__damaged_weights_are_one_line(tmp_path: Path) -> None:
    needs("openvino", "onnx")
    path = write_openvino(tmp_path / "model.xml")
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(FcosEdgeError, match=r"model\.xml") as caught:
        open_artifact(path)
    assert "\n" not in str(caught.value)


def test_openvino__asynchronous_outputs_outlive_the_next_submit(tmp_path: Path) -> None:
    needs("openvino", "onnx")
    loaded = open_artifact(write_openvino(tmp_path / "model.xml"), threads=1)
    runtime = cast(AsyncRuntime, loaded.runtime)
    buffer = np.empty_like(pictures(1))
    buffer[:] = pictures(1, seed=0)
    runtime.submit(buffer)
    for seed in range(1, 6):
        raw = runtime.wait()
        # One buffer for all pictures, as a camera loop has it, refilled while the network works.
        buffer[:] = pictures(1, seed=seed)
        runtime.submit(buffer)
        buffer[:] = 0
        expected = models.expected_outputs(pictures(1, seed=seed - 1))
        np.testing.assert_array_equal(raw.logits.values, expected["logits"])
    runtime.close()  # with one picture still on its way


@pytest.mark.parametrize("batch", ["N", 3])
def test_openvino__submit_and_wait_take_turns(batch: int | str, tmp_path: Path) -> None:
    needs("openvino", "onnx")
    loaded = open_artifact(write_openvino(tmp_path / "model.xml", batch), threads=1)
    runtime = cast(AsyncRuntime, loaded.runtime)
    with pytest.raises(RuntimeError, match="nothing was submitted"):
        runtime.wait()
    for count in (1, 2, 3):
        runtime.submit(pictures(count))
        with pytest.raises(RuntimeError, match="not waited for"):
            runtime.submit(pictures(count))
        expected = models.expected_outputs(pictures(count))
        np.testing.assert_array_equal(runtime.wait().ltrb.values, expected["ltrb"])
    runtime.close()
