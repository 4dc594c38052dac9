"""The model card: everything that a user must know before using a bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fcos_edge.bundle import FileEntry, Manifest, ManifestArtifact
from fcos_edge.quantize.model_card import LIMITS, model_card
from fcos_edge.sensitivity_table import SensitivityRow, SensitivityTable
from tests.small_specs import SMALL_SPEC

SPEC = replace(SMALL_SPEC, provenance={"licence_of_the_weights": "Apache-2.0", "data": ["one", "two"]})
SHA = "0" * 64
MANIFEST = Manifest(SPEC, (
    ManifestArtifact((FileEntry("model.fp32.onnx", 4000, SHA),), "onnx", "fp32"),
    ManifestArtifact(
        (FileEntry("model.int8.xml", 1000, SHA), FileEntry("model.int8.bin", 2500, SHA)), "openvino", "int8"
    ),
))  # fmt: skip
THRESHOLDS = (0.3, 0.45678, 0.5)
METRICS: dict[str, Any] = {
    "val": {
        "pictures": 230, "AP": 0.2266,
        "classes": {"person": {"boxes": 958, "AP": 0.2284}, "car": {"boxes": 0, "AP": -1}},
    },
    "training_pictures": 4394,
}  # fmt: skip


def lines(**changed: Any) -> list[str]:
    arguments = {
        "manifest": MANIFEST,
        "operating_thresholds": THRESHOLDS,
        "metrics": METRICS,
        "pictures": 256,
    }
    return model_card(**{**arguments, **changed}).splitlines()


def test_card__says_what_it_is() -> None:
    assert lines()[0] == "# small"
    assert "An FCOS detector for 64x32 pixels, exported and verified by fcos-edge." in lines()


def test_card__tables_have_every_class_and_every_file() -> None:
    assert [line for line in lines() if line.startswith("| ") and line.count("|") == 3] == [
        "| class | operating threshold |",
        "| person | 0.300 |", "| bicycle | 0.457 |", "| car | 0.500 |",
    ]  # fmt: skip
    assert "| model.fp32.onnx | fp32 | 4,000 |" in lines()
    assert "| model.int8.xml, model.int8.bin | int8 | 3,500 |" in lines()  # bytes of both


def test_card__figures_stand_beside_their_box_counts() -> None:
    at = lines().index("### val")
    assert lines()[at : at + 8] == [
        "### val", "", "pictures 230, AP 0.2266", "",
        "| class | boxes | AP |", "|---|---|---|", "| person | 958 | 0.2284 |", "| car | 0 | -1 |",
    ]  # fmt: skip
    assert "training pictures: 4394" in lines()


def test_card__names_licence_data_and_limits() -> None:
    assert "- licence of the weights: Apache-2.0" in lines()
    assert "- data: one, two" in lines()
    assert [line for line in lines()[-4:] if line] == [f"- {limit}" for limit in LIMITS]


def test_card__text_of_a_user_stays_on_its_line() -> None:
    card = lines(manifest=replace(MANIFEST, spec=replace(SPEC, provenance={"note": "# one\n\n# two"})))
    assert "- note: # one # two" in card


def test_card__says_nothing_about_what_is_not_there() -> None:
    """No int8, nothing measured, nothing known."""
    bare = replace(MANIFEST, spec=replace(SPEC, provenance={}))
    headings = [line for line in lines(manifest=bare, metrics={}, pictures=0) if line.startswith("#")]
    assert headings == ["# small", "## Classes", "## Files", "## Limits"]
    assert any("int8 ranges: 256 pictures" in line for line in lines())
    assert not any("int8 ranges" in line for line in lines(pictures=0))


def test_card__shows_the_most_harmful_layers() -> None:
    rows = tuple(
        SensitivityRow(f"layer{place}", "linear", 10, 200, harm, 0.0, harm, harm, 0.0, is_float=place > 10)
        for place, harm in enumerate((0.001, 0.02, *[0.0001] * 10))
    )
    card = lines(sensitivity=SensitivityTable("w8c_a8t_minmax", 8, rows))
    at = card.index("## What int8 harms")
    assert "All 12 layers are in `sensitivity.json`" in card[at + 2]
    assert card[at + 6 : at + 9] == [
        "| layer1 | linear | 0.0200 | no |", "| layer0 | linear | 0.0010 | no |",
        "| layer2 | linear | 0.0001 | no |",
    ]  # fmt: skip
    assert card[at + 16 : at + 19] == ["", "Kept in float: layer11.", ""]
