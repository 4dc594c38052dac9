"""A checkpoint gets another record, thresholds and a table of harms, and keeps everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fcos_edge.errors import DataError, UsageError
from fcos_edge.quantize.make_golden import PICTURES
from fcos_edge.quantize.recalibrate import recalibrate
from fcos_edge.quantize.record import Record
from fcos_edge.sensitivity_table import SensitivityTable
from fcos_edge.train.checkpoint import load_checkpoint
from tests.small_detector import save_small_detector


def test_recalibrate__changes_the_record_alone(tmp_path: Path) -> None:
    old = save_small_detector(tmp_path / "old.safetensors")
    new = tmp_path / "new.safetensors"
    recalibrate(old, [PICTURES], new, "w7c_a8t_percentile")
    before, after = load_checkpoint(old), load_checkpoint(new)
    record = Record.from_dict(dict(after.record or {}))
    assert record.recipe == "w7c_a8t_percentile"
    assert set(record.operating_thresholds) == {"onnx", "openvino", "tflite"}
    table = SensitivityTable.from_dict(after.sensitivity)
    assert {row.layer for row in table.rows} <= set(record.points)
    assert before.sensitivity is None
    assert (after.spec, after.operating_thresholds) == (before.spec, before.operating_thresholds)
    weights = after.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in before.network.state_dict().items())


@pytest.mark.parametrize(
    ("data", "out", "recipe", "error", "said"),
    [
        ("golden", "old.safetensors", "w8c_a8t_mse", UsageError, "is there already; name another file"),
        ("golden", "missing/new.safetensors", "w8c_a8t_mse", UsageError, "there is no folder"),
        ("golden", "new.safetensors", "w9", UsageError, "'w9' is none of w8c"),
        ("nothing", "new.safetensors", "w8c_a8t_mse", DataError, "no such folder"),
    ],
)
def test_recalibrate__mistakes_write_nothing(
    tmp_path: Path, data: str, out: str, recipe: str, error: type[Exception], said: str
) -> None:
    old = save_small_detector(tmp_path / "old.safetensors")
    before = old.read_bytes()
    folder = PICTURES if data == "golden" else tmp_path / data
    with pytest.raises(error, match=said):
        recalibrate(old, [folder], tmp_path / out, recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]
    assert old.read_bytes() == before
