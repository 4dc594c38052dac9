"""The sensitivity table of a bundle: what is written is what is read, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.errors import ArtifactError, SpecError
from fcos_edge.sensitivity_table import (
    SensitivityRow,
    SensitivityTable,
    harm_bar,
    read_table,
    write_table,
)

STEM = SensitivityRow("stem", "stem", 224, 221184, 0.003, 0.001, 0.002, 0.0025, 0.0005, is_float=False)
ADD = SensitivityRow("add", "add", 0, 0, 0.25, 0.125, 0.125, 0.0, 0.25, is_float=True)
LATER = replace(ADD, layer="add.2", harm=0.003)
TABLE = SensitivityTable("w8c_a8t_mse_bc", 8, (STEM, ADD, LATER))


def test_table__survives_its_file(tmp_path: Path) -> None:
    write_table(tmp_path / "a.json", TABLE)
    assert read_table(tmp_path / "a.json") == TABLE
    write_table(tmp_path / "b.json", read_table(tmp_path / "a.json"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_ranked__ties_keep_the_networks_order() -> None:
    assert [row.layer for row in TABLE.ranked] == ["add", "stem", "add.2"]


def test_share__harms_add_in_squares() -> None:
    table = replace(TABLE, rows=(replace(STEM, harm=0.3), replace(ADD, harm=0.4)))
    assert [round(table.share(row), 9) for row in table.rows] == [0.36, 0.64]
    still = replace(TABLE, rows=(replace(STEM, harm=0.0),))
    assert still.share(still.rows[0]) == 0


@pytest.mark.parametrize(
    ("value", "largest", "width"), [(1.0, 1.0, 24), (0.25, 0.5, 12), (0.0, 1.0, 0), (0.0, 0.0, 0)]
)
def test_bar__is_drawn_to_scale(value: float, largest: float, width: int) -> None:
    assert harm_bar(value, largest) == "#" * width


@pytest.mark.parametrize(("path", "value", "said"), [
    (("schema",), None, "schema is None"),
    (("schema",), "fcos-edge.parity/1.0", "schema is 'fcos-edge.parity/1.0'"),
    (("schema",), "fcos-edge.sensitivity/2.0", "version 2.0 is not 1.x"),
    (("recipe",), 3, "recipe must be text"),
    (("pictures",), -1, "pictures must be"),
    (("pictures",), True, "pictures must be"),
    (("layers",), {}, "layers must be a list"),
    (("layers", 0), [], "a layer must be a JSON object"),
    (("layers", 1, "layer"), "stem", "a layer is named twice"),
    (("layers", 0, "layer"), "two\nlines", "a layer's name is"),
    (("layers", 0, "kind"), "soup", "kind must be one of"),
    (("layers", 0, "kind"), [], "kind must be one of"),
    (("layers", 0, "parameters"), 1.5, "parameters must be"),
    (("layers", 0, "harm"), -0.1, "harm must be a number"),
    (("layers", 0, "box_loss"), float("nan"), "box_loss must be a number"),
    (("layers", 0, "weights_harm"), "0.1", "weights_harm must be a number"),
    (("layers", 0, "is_float"), 0, "is_float must be"),
    (("layers", 0, "more"), 0, "unknown key 'more'"),
])  # fmt: skip
def test_malformed__is_one_line(
    path: tuple[str | int, ...], value: object, said: str, tmp_path: Path
) -> None:
    document = TABLE.to_dict()
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file = tmp_path / "sensitivity.json"
    file.write_text(json.dumps(document))
    with pytest.raises(SpecError) as error:
        read_table(file)
    assert str(error.value).startswith(f"{file}: sensitivity table: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_text("{"),
    lambda path: path.write_bytes(b"\xff\xfe\x00"),
    lambda path: path.write_text("[" * 100_000),
    lambda path: path.mkdir(),
    lambda path: None,  # there is no file
])  # fmt: skip
def test_unreadable__is_one_line(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    spoil(tmp_path / "sensitivity.json")
    with pytest.raises(ArtifactError, match=r"sensitivity\.json: no sensitivity table \(.*copy the bundle"):
        read_table(tmp_path / "sensitivity.json")


def test_missing_key__is_named() -> None:
    document = TABLE.to_dict()
    del document["layers"][0]["harm"]
    with pytest.raises(SpecError, match="key 'harm' is missing"):
        SensitivityTable.from_dict(document)
