"""Arm's compiler for Ethos-U places every operator of the embedded detector's int8 file on the NPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fcos_edge import embedded
from fcos_edge.image import read_image_bgr
from fcos_edge.quantize.calibrate import calibrate_inputs, letterboxed
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.formats import WriteOptions, tflite
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.make_golden import golden_sources
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.runtime import UInt8Array
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint

# pip install ethos-u-vela
VELA = os.environ.get("FCOS_EDGE_TEST_VELA") or shutil.which("vela", path=f"{Path(sys.executable).parent}")
pytestmark = pytest.mark.skipif(
    not VELA, reason="no vela: pip install ethos-u-vela, or name it with FCOS_EDGE_TEST_VELA"
)


@pytest.fixture(scope="module")
def detector() -> tuple[Checkpoint, Graph, UInt8Array]:
    checkpoint = load_checkpoint(embedded.CHECKPOINT)
    inputs, _ = letterboxed(map(read_image_bgr, golden_sources()), checkpoint.spec)
    return checkpoint, deploy(checkpoint.network, checkpoint.spec.input_hw), inputs


@pytest.mark.parametrize(("recipe", "options", "accelerator"), [
    ("w8t_a8t_minmax", WriteOptions(), "ethos-u55-128"),
    ("w8t_a8t_minmax", WriteOptions(), "ethos-u65-256"),
    ("w8t_a8t_minmax", WriteOptions(tflite_io="uint8"), "ethos-u55-128"),
    ("w8c_a8t_minmax", WriteOptions(), "ethos-u55-128"),
])  # fmt: skip
def test_vela__every_operator_is_on_the_npu(
    recipe: str,
    options: WriteOptions,
    accelerator: str,
    detector: tuple[Checkpoint, Graph, UInt8Array],
    tmp_path: Path,
) -> None:
    checkpoint, graph, inputs = detector
    record = calibrate_inputs(graph, inputs, recipe=parse_recipe(recipe))
    thresholds = checkpoint.operating_thresholds
    (path,) = tflite.write(tmp_path, graph, record, checkpoint.spec, "int8", thresholds, options)
    subprocess.run(
        [str(VELA), str(path), "--output-dir", str(tmp_path), "--accelerator-config", accelerator],
        check=True,
        stdout=subprocess.PIPE,
    )
    compiled = schema.ModelT.InitFromPackedBuf((tmp_path / "model.int8_vela.tflite").read_bytes(), 0)
    assert [code.customCode for code in compiled.operatorCodes] == [b"ethos-u"]
    (subgraph,) = compiled.subgraphs
    assert len(subgraph.operators) == 1  # nothing before, between or behind
    ends = [subgraph.tensors[index] for index in (*subgraph.inputs, *subgraph.outputs)]
    assert len(ends) == 1 + len(graph.outputs)
    wanted = schema.TensorType.UINT8 if options.tflite_io == "uint8" else schema.TensorType.INT8
    assert {end.type for end in ends} == {wanted}
    assert tuple(np.ravel(ends[0].shape)) == (1, *checkpoint.spec.input_hw, 3)
