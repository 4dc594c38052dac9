"""Golden pictures are what the trained network and the simulator really put out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from fcos_edge.golden import Golden, read_golden, write_golden
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.make_golden import golden_license, golden_sources, make_golden
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.simulate import simulate
from fcos_edge.spec import BRANCHES
from fcos_edge.train.checkpoint import Checkpoint
from tests.small_detector import small_detector

CAT = next(path for path in golden_sources() if path.name == "cat.png")


@cache
def detector() -> Checkpoint:
    return small_detector()


def make(record: Record | None, sources: tuple[Path, ...] = (CAT,)) -> Golden:
    checkpoint = detector()
    graph = deploy(checkpoint.network, checkpoint.spec.input_hw)
    return make_golden(
        checkpoint.network, graph, record, checkpoint.spec, checkpoint.operating_thresholds, sources
    )


@pytest.fixture(scope="module")
def golden() -> Golden:
    return make(Record.from_dict(detector().record))


def test_sources__ship_with_their_licence() -> None:
    assert [path.name for path in golden_sources()] == ["astronaut-portrait.png", "astronaut.png", "cat.png"]
    shapes = [read_image_bgr(path).shape[:2] for path in golden_sources()]
    # One upright, one square, one wide: each pads the letterbox elsewhere.
    assert [np.sign(height - width) for height, width in shapes] == [1, 0, -1]
    assert "cat" in golden_license()
    assert "astronaut" in golden_license()


def test_golden__is_what_network_and_simulator_put_out(golden: Golden) -> None:
    checkpoint = detector()
    (picture,) = golden.pictures
    image_bgr = read_image_bgr(CAT)
    letterbox = Letterbox.from_spec(checkpoint.spec, (image_bgr.shape[0], image_bgr.shape[1]))
    np.testing.assert_array_equal(picture.images, letterbox.apply(image_bgr)[None])
    with torch.inference_mode():
        maps = checkpoint.network(torch.from_numpy(picture.images).permute(0, 3, 1, 2).float())
    graph = deploy(checkpoint.network, checkpoint.spec.input_hw)
    integers = simulate(graph, Record.from_dict(checkpoint.record), picture.images)
    assert list(picture.fp32) == list(picture.int8) == list(checkpoint.spec.output_names)
    for name in picture.fp32:
        # Here as many threads run as an earlier test has set, and sum in another order.
        expected = maps[name][0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(picture.fp32[name], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(picture.int8[name], integers[name][0])


def test_golden__operating_detections_are_candidates(golden: Golden) -> None:
    (picture,) = golden.pictures
    assert detector().spec.classes[picture.operating.labels[0]] == "cat"
    assert 0 < len(picture.operating) < len(picture.candidates)
    assert picture.candidates.scores.max() == picture.operating.scores.max()


def test_golden__floor_is_what_one_flipped_bit_does(golden: Golden) -> None:
    """A bit changes something, and far less than the spread of the values, which is about one."""
    floors = golden.one_bit_floors
    assert list(floors) == list(detector().spec.output_names)
    assert all(0 <= floor < 0.2 for floor in floors.values())
    assert all(floors[f"{branch}_p3"] > 0 for branch in BRANCHES)
    assert golden.is_integer
    assert golden.record_sha256 == Record.from_dict(detector().record).sha256


def test_golden__twice__is_the_same_and_survives_the_disk(golden: Golden, tmp_path: Path) -> None:
    again = make(Record.from_dict(detector().record))
    for folder, made in (("first", golden), ("second", again)):
        (tmp_path / folder).mkdir()
        write_golden(tmp_path / folder, made, (CAT,), golden_license())
    for path in (tmp_path / "first" / "golden").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / "golden" / path.name).read_bytes()
    read = read_golden(tmp_path / "first")
    assert (read.outputs, read.one_bit_floors) == (golden.outputs, golden.one_bit_floors)


def test_golden__without_record_has_no_integers() -> None:
    golden = make(None)
    assert golden.pictures[0].int8 == {}
    assert (golden.outputs, golden.record_sha256, golden.one_bit_floors) == ((), "", {})


def test_golden__training_network_is_run_as_in_evaluation_and_left_alone(golden: Golden) -> None:
    network = detector().network
    network.train()
    try:
        picture = make(None).pictures[0]
        assert network.training
    finally:
        network.eval()
    for name, value in golden.pictures[0].fp32.items():
        np.testing.assert_array_equal(picture.fp32[name], value)


def test_golden__output_kept_in_float__survives_the_disk(tmp_path: Path) -> None:
    checkpoint = detector()
    graph = deploy(checkpoint.network, checkpoint.spec.input_hw)
    record = replace(Record.from_dict(checkpoint.record), float_nodes=(graph.outputs["logits_p3"],))
    write_golden(tmp_path, make(record), (CAT,), golden_license())
    golden = read_golden(tmp_path)
    (picture,) = golden.pictures
    assert not golden.is_integer
    for output in golden.outputs:
        is_float = output.name == "logits_p3"
        assert picture.int8[output.name].dtype == (np.float32 if is_float else np.uint8)
        assert (output.zero_point is None) == is_float
        assert output.scale == record.points[graph.outputs[output.name]].scale
