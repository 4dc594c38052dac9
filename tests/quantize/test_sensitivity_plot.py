"""The sensitivity plot: a picture of every layer, and always the same one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcos_edge.image import read_image_bgr
from fcos_edge.quantize.sensitivity_plot import write_sensitivity_plot
from fcos_edge.sensitivity_table import KINDS, SensitivityRow, SensitivityTable

ROWS = tuple(
    SensitivityRow(f"layer.{place}", kind, 10, 100, 0.01 * place, 0.0, 0.01 * place, 0.0, 0.0, is_float=False)
    for place, kind in enumerate(KINDS * 3)
)
TABLE = SensitivityTable("w8c_a8t_minmax", 8, ROWS)


def test_plot__same_table_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_sensitivity_plot(tmp_path / name, TABLE, "tiny")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    image_bgr = read_image_bgr(tmp_path / "a.png")
    assert image_bgr.shape == (900, 960, 3)  # 8 x 7.5 inches at 120 dots
    # Violet bars of stems, #aa3377: each kind has a colour of its own.
    assert (image_bgr == (0x77, 0x33, 0xAA)).all(axis=2).any()


def test_plot__float_layers_are_marked(tmp_path: Path) -> None:
    write_sensitivity_plot(tmp_path / "a.png", TABLE, "tiny")
    kept = replace(TABLE, rows=(*ROWS[:-1], replace(ROWS[-1], is_float=True)))
    write_sensitivity_plot(tmp_path / "b.png", kept, "tiny")
    a, b = (read_image_bgr(tmp_path / name) for name in ("a.png", "b.png"))
    assert not np.array_equal(a, b)


@pytest.mark.parametrize("rows", [(), (replace(ROWS[0], harm=0.0),)])
def test_plot__nothing_to_see_is_no_error(rows: tuple[SensitivityRow, ...], tmp_path: Path) -> None:
    write_sensitivity_plot(tmp_path / "a.png", replace(TABLE, rows=rows), "tiny")
    assert (tmp_path / "a.png").stat().st_size > 0
