"""The sensitivity table of a bundle: how much each layer's quantization alone harms what is found.

    {"schema": "fcos-edge.sensitivity/1.0", "recipe": "w8c_a8t_minmax", "pictures": 8, "layers": [...]}

It is measured on the workstation (`quantize/sensitivity.py`) and read anywhere.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fcos_edge.errors import ArtifactError, SpecError
from fcos_edge.spec import check_keys, check_version, is_number, shown

SCHEMA_NAME = "fcos-edge.sensitivity/"
SCHEMA_VERSION = (1, 0)
KINDS = ("stem", "depthwise", "pointwise", "linear", "dense", "add", "output")
MOST_HARMFUL = 10  # so many are shown where not all are asked for
_MAX_BYTES = 1 << 24
_BAR_WIDTH = 24  # characters


@dataclass(frozen=True)
class SensitivityRow:
    """One layer: a convolution or an addition.

    kind              stem: reads the picture; output: makes one; depthwise; pointwise: 1x1 with an
                      activation; linear: 1x1 without; dense: any other convolution; add
    parameters        weights and biases
    multiply_adds     per picture
    harm              score_change + box_loss, of weights and output quantized; 0 where nothing changes
    score_change      mean |change of the score|, 0..1
    box_loss          mean 1 - IoU of the box before and after, 0..1
    weights_harm      the harm where only weights and biases are quantized
    activation_harm   the harm where only the output is
    is_float          the layer is kept in float, and so does no harm
    """

    layer: str
    kind: str
    parameters: int
    multiply_adds: int
    harm: float
    score_change: float
    box_loss: float
    weights_harm: float
    activation_harm: float
    is_float: bool


@dataclass(frozen=True)
class SensitivityTable:
    """All layers in the network's order.

    recipe    name of the recipe that they are quantized by
    pictures  on so many the harm was measured
    """

    recipe: str
    pictures: int
    rows: tuple[SensitivityRow, ...]

    @property
    def ranked(self) -> tuple[SensitivityRow, ...]:
        """The most harmful first; of equals the one that comes first in the network."""
        return tuple(sorted(self.rows, key=lambda row: -row.harm))

    def share(self, row: SensitivityRow) -> float:
        """The row's part of the harm of all layers, 0..1: harms of different layers add in squares."""
        total = sum(other.harm**2 for other in self.rows)
        return row.harm**2 / total if total else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA_NAME + "{}.{}".format(*SCHEMA_VERSION),
            "recipe": self.recipe,
            "pictures": self.pictures,
            "layers": [asdict(row) for row in self.rows],
        }

    @classmethod
    def from_dict(cls, document: object) -> SensitivityTable:
        """Read what `to_dict` wrote. Raises SpecError for anything else."""
        _require(isinstance(document, dict), "expected a JSON object")
        assert isinstance(document, dict)
        schema = document.get("schema")
        is_ours = isinstance(schema, str) and schema.startswith(SCHEMA_NAME)
        _require(is_ours, f"schema is {shown(schema)}, expected {SCHEMA_NAME}...")
        check_version("sensitivity table", str(schema).removeprefix(SCHEMA_NAME), SCHEMA_VERSION)
        check_keys("sensitivity table", document, {"schema", "recipe", "pictures", "layers"})
        _require(isinstance(document["recipe"], str), "recipe must be text")
        _require(_is_count(document["pictures"]), "pictures must be an integer, 0 or more")
        _require(isinstance(document["layers"], list), "layers must be a list")
        rows = tuple(map(_read_row, document["layers"]))
        _require(len({row.layer for row in rows}) == len(rows), "a layer is named twice")
        return cls(document["recipe"], document["pictures"], rows)


def read_table(path: Path) -> SensitivityTable:
    """Read what `write_table` wrote.

    Raises ArtifactError where it is no JSON document, and SpecError where that is no sensitivity table.
    """
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        reason = type(error).__name__
        raise ArtifactError(f"{path}: no sensitivity table ({reason}); copy the bundle again") from None
    try:
        return SensitivityTable.from_dict(document)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def write_table(path: Path, table: SensitivityTable) -> None:
    """The same table gives the same bytes."""
    text = json.dumps(table.to_dict(), indent=1, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def harm_bar(value: float, largest: float) -> str:
    """`value` drawn to the scale in which `largest` fills the width."""
    return "#" * round(_BAR_WIDTH * value / largest) if largest > 0 else ""


def _read_row(document: object) -> SensitivityRow:
    _require(isinstance(document, dict), "a layer must be a JSON object")
    assert isinstance(document, dict)
    check_keys("sensitivity table", document, {f.name for f in fields(SensitivityRow)})
    name = document["layer"]
    is_name = isinstance(name, str) and name.isprintable()
    _require(is_name, f"a layer's name is {shown(name)}, expected text")
    _require(document["kind"] in KINDS, f"{shown(name)}: kind must be one of {', '.join(KINDS)}")
    for key in ("parameters", "multiply_adds"):
        _require(_is_count(document[key]), f"{shown(name)}: {key} must be an integer, 0 or more")
    for key in ("harm", "score_change", "box_loss", "weights_harm", "activation_harm"):
        is_harm = is_number(document[key]) and document[key] >= 0
        _require(is_harm, f"{shown(name)}: {key} must be a number, 0 or more")
    _require(isinstance(document["is_float"], bool), f"{shown(name)}: is_float must be true or false")
    return SensitivityRow(**document)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _require(condition: bool, wanted: str) -> None:
    if not condition:
        raise SpecError(f"sensitivity table: {wanted}; export the bundle again")
