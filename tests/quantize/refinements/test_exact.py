"""Records that were refined are still what ONNX Runtime and ai-edge-litert compute, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcos_edge.quantize.calibrate import calibrate_inputs
from fcos_edge.quantize.formats import onnx as onnx_format
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.simulate import dequantize, simulate
from tests.quantize.formats import test_tflite
from tests.quantize.formats.test_onnx import run_onnx
from tests.quantize.graphs import random_pictures, tiny_graph

RECIPES = [
    "w8c_a8t_minmax_bc",
    "w8c_a8t_percentile_ws_bc",  # sums beyond the range: clamps that are no activation's
    "w8c_a8t_mse_ws",
    "w8c_a8t_average_cle_ws_bc",
    "w7c_a8t_average_ws_bc",
    "w7c_a8t_minmax",
    "w8t_a8t_minmax_cle_bc",
    "w8t_a8t_mse_cle_ws_bc",
    "w8c_a8t_minmax_ada",
    "w7t_a8t_average_cle_ws_ada_bc",
]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "graph", [tiny_graph(0), tiny_graph(1, dead_bias=5.0)], ids=["plain", "dead channels"]
)
def test_refined_records__are_exact_in_both_formats(graph: Graph, recipe: str, tmp_path: Path) -> None:
    record = calibrate_inputs(graph, random_pictures(graph, 6), (), parse_recipe(recipe))
    pictures = random_pictures(graph, 4, seed=9)  # others: some of their values lie outside the ranges
    wanted = simulate(graph, record, pictures)
    real = dequantize(graph, record, wanted)
    onnx = run_onnx(onnx_format.serialize(graph, record), pictures)
    tflite = test_tflite.run_tflite(test_tflite.write(tmp_path, graph, "int8", record), pictures)
    for output in graph.outputs:
        np.testing.assert_array_equal(onnx[output], real[output], err_msg=output)
        np.testing.assert_array_equal(tflite[output].astype(int) + 128, wanted[output], err_msg=output)
