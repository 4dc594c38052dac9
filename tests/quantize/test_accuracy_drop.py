"""Points of AP that a record costs: a small trained detector on a few real pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fcos_edge.detector import Detector
from fcos_edge.errors import UsageError
from fcos_edge.quantize.accuracy_drop import AccuracyDrop
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.simulated_runtime import SimulatedRuntime
from fcos_edge.train.checkpoint import Checkpoint
from fcos_edge.train.evaluation.evaluate import LabelledSplit, evaluate, read_split
from fcos_edge.train.torch_runtime import TorchRuntime
from tests.few_pictures import write_few_pictures
from tests.small_detector import small_detector

PICTURES = 4


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return small_detector()


@pytest.fixture(scope="module")
def graph(checkpoint: Checkpoint) -> Graph:
    return deploy(checkpoint.network, checkpoint.spec.input_hw)


@pytest.fixture(scope="module")
def data(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_few_pictures(tmp_path_factory.mktemp("data") / "few", PICTURES, checkpoint.spec.classes)


@pytest.fixture(scope="module")
def labelled(checkpoint: Checkpoint, data: Path) -> LabelledSplit:
    return read_split(data, "val", checkpoint.spec.classes)


@pytest.mark.parametrize("metric", ["", "person"])
def test_drop__is_the_difference_of_two_evaluations(
    metric: str, checkpoint: Checkpoint, graph: Graph, data: Path, labelled: LabelledSplit
) -> None:
    spec = checkpoint.spec
    record = Record.from_dict(dict(checkpoint.record or {}))
    points = []
    for runtime in (TorchRuntime(checkpoint.network, spec), SimulatedRuntime(graph, record, spec)):
        found = evaluate(Detector(runtime, spec, checkpoint.operating_thresholds), data)
        of_class = {row.name: row.ap for row in found.classes}
        points.append(100 * (of_class[metric] if metric else found.figures["AP"]))
    drop = AccuracyDrop(checkpoint, graph, labelled, metric)
    assert drop.reference == points[0] > 0
    assert drop(record) == points[0] - points[1]
    interval = drop.interval(record)
    assert interval is not None
    assert interval[0] <= interval[1]


def test_interval__is_the_drops_own_sign(
    checkpoint: Checkpoint, graph: Graph, labelled: LabelledSplit
) -> None:
    """A record that ruins all loses all that there is, in every draw."""
    record = Record.from_dict(dict(checkpoint.record or {}))
    ruined = replace(record, weight_scales={name: s * 1000 for name, s in record.weight_scales.items()})
    drop = AccuracyDrop(checkpoint, graph, labelled, "person")
    assert drop(ruined) == drop.reference
    interval = drop.interval(ruined)
    assert interval is not None
    assert 0 <= interval[0] <= drop.reference <= interval[1]


def test_pictures__are_spread_and_said(
    checkpoint: Checkpoint, graph: Graph, labelled: LabelledSplit, capsys: pytest.CaptureFixture[str]
) -> None:
    AccuracyDrop(checkpoint, graph, labelled, "", pictures=2)
    assert "measuring on 2 of 4 pictures of few/val\n" in capsys.readouterr().err


@pytest.mark.parametrize(("metric", "said"), [
    ("unicorn", "--metric unicorn: no class; name one of person, bicycle,"),
    ("horse", "--max-drop: few/val has no box of horse; measure on other pictures"),
])  # fmt: skip
def test_metric__that_cannot_be_measured_is_one_line(
    metric: str, said: str, checkpoint: Checkpoint, graph: Graph, labelled: LabelledSplit
) -> None:
    with pytest.raises(UsageError) as error:
        AccuracyDrop(checkpoint, graph, labelled, metric)
    assert str(error.value).startswith(said)
