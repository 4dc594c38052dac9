"""Group normalization and pools through every format: in float and in int8, against PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fcos_edge.errors import ArtifactError
from fcos_edge.quantize.calibrate import calibrate_inputs
from fcos_edge.quantize.execute import DeployNetwork
from fcos_edge.quantize.formats import openvino as openvino_format
from fcos_edge.quantize.formats import tflite as tflite_format
from fcos_edge.quantize.graph import Conv, MaxPool
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.simulate import Simulator, dequantize
from tests.quantize.formats.test_float_nodes import IDS, RUN, THRESHOLDS, compiled, written
from tests.quantize.graphs import paper_graph, random_pictures, tiny_graph, tiny_record, tiny_spec

GRAPH = paper_graph(0)


@pytest.mark.parametrize("writer", RUN, ids=IDS)
def test_float__is_the_deploy_network(writer: Any, tmp_path: Path) -> None:
    pictures = random_pictures(GRAPH, 2)
    path = writer.write(tmp_path, GRAPH, None, tiny_spec(GRAPH), "fp32", THRESHOLDS)[0]
    found = RUN[writer](path, pictures)
    for name, wanted in DeployNetwork(GRAPH)(torch.from_numpy(pictures)).items():
        # Float32 sums in another order, and divided by a standard deviation of them.
        largest = float(wanted.abs().max())
        np.testing.assert_allclose(found[name], wanted.numpy(), rtol=0, atol=2e-5 * largest, err_msg=name)


@pytest.mark.parametrize("writer", RUN, ids=IDS)
def test_float__far_from_zero__keeps_its_digits(writer: Any, tmp_path: Path) -> None:
    """A mean of 100 standard deviations: the square of it would swallow the variance."""
    nodes = tuple(
        replace(node, bias=node.bias + np.float32(100))
        if isinstance(node, Conv) and node.name.startswith("tower")
        else node
        for node in GRAPH.nodes
    )
    graph = replace(GRAPH, nodes=nodes)
    pictures = random_pictures(graph, 1)
    path = writer.write(tmp_path, graph, None, tiny_spec(graph), "fp32", THRESHOLDS)[0]
    found = RUN[writer](path, pictures)
    for name, wanted in DeployNetwork(graph)(torch.from_numpy(pictures)).items():
        largest = float(wanted.abs().max())
        # 24 bits minus the 8 to 10 of the mean.
        np.testing.assert_allclose(found[name], wanted.numpy(), rtol=0, atol=5e-3 * largest, err_msg=name)


def test_calibrate__gives_points_for_both() -> None:
    pictures = random_pictures(GRAPH, 4)
    record = calibrate_inputs(GRAPH, pictures, recipe=parse_recipe("w8c_a8t_mse_bc"))
    assert record.points["pool"] == record.points["stem"]
    assert record.points["norm_logits_p3"].zero_point == 0  # a ReLU follows
    found = dequantize(GRAPH, record, Simulator(GRAPH, record).run(pictures))
    for name, wanted in DeployNetwork(GRAPH)(torch.from_numpy(pictures)).items():
        assert np.corrcoef(found[name].ravel(), wanted.numpy().ravel())[0, 1] > 0.99


def test_openvino__convolutions_around_group_norms_run_in_integers(tmp_path: Path) -> None:
    path = written(tmp_path, openvino_format, GRAPH, tiny_record(GRAPH))
    precisions = {
        operation.input_value(0).get_element_type().to_string()
        for operation in compiled(path).get_runtime_model().get_ops()
        if operation.get_rt_info()["layerType"].astype(str) == "Convolution"
    }
    assert precisions <= {"u8", "i8"}


def test_tflite__pads_that_a_pool_could_see_are_refused(tmp_path: Path) -> None:
    graph = tiny_graph(0)
    pool = MaxPool("pool", ("c4",), 3, 1, (1, 1, 1, 1))  # c4 has no activation
    shapes = {**graph.shapes, "pool": graph.shapes["c4"]}
    graph = replace(graph, nodes=(*graph.nodes, pool), shapes=shapes)
    with pytest.raises(ArtifactError, match="pool: pads where values may be negative"):
        tflite_format.write(tmp_path, graph, None, tiny_spec(graph), "fp32", THRESHOLDS)
