"""The model card of a bundle: its README.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fcos_edge.bundle import SENSITIVITY_NAME, SENSITIVITY_PLOT_NAME, Manifest, ManifestArtifact
from fcos_edge.sensitivity_table import MOST_HARMFUL, SensitivityTable

LIMITS = (
    "Trained on photographs of everyday scenes; other views, sensors or sizes of objects need a measurement"
    " of their own before anyone relies on them.",
    "Scores are not calibrated probabilities; the operating thresholds are those of the best F1 per class.",
    "Not meant for decisions about people, nor where a missed detection endangers anyone.",
)


def model_card(
    manifest: Manifest,
    operating_thresholds: tuple[float, ...],
    metrics: Mapping[str, Any],
    pictures: int,
    sensitivity: SensitivityTable | None = None,
    meant_for: str = "",
) -> str:
    """Markdown; the same arguments give the same text.

    metrics      name -> figures as `Evaluation.to_dict`, or any JSON value
    pictures     how many pictures the int8 ranges come from; 0 without int8
    sensitivity  None where it was not measured
    meant_for    the CPUs that int8 is meant for, in words
    """
    spec = manifest.spec
    height, width = spec.input_hw
    lines = [
        f"# {spec.name}",
        "",
        f"An FCOS detector for {width}x{height} pixels, exported and verified by fcos-edge.",
        "",
        "    import cv2, fcos_edge",
        f'    detector = fcos_edge.load("{spec.name}")   # this folder',
        '    detections = detector(cv2.imread("street.jpg"))',
        "",
        "`fcos-edge verify` proves on any machine that the files below are the detector that was exported.",
        "",
        "## Classes",
        "",
        "| class | operating threshold |",
        "|---|---|",
        *(f"| {name} | {t:.3f} |" for name, t in zip(spec.classes, operating_thresholds, strict=True)),
        "",
        "## Files",
        "",
        "| file | precision | bytes |",
        "|---|---|---|",
        *map(_file_row, manifest.artifacts),
        "",
    ]
    if pictures:
        lines += [f"int8 ranges: {pictures} pictures, named by their hashes in `calibration.json`.", ""]
    if meant_for:
        lines += [f"int8 is meant for {meant_for}.", ""]
    if sensitivity is not None:
        lines += _sensitivity(sensitivity)
    if metrics:
        lines += [
            "## Measured",
            "",
            "COCO average precision, 0 to 1; -1 where there was nothing to find.",
            "",
        ]
        for name, figures in metrics.items():
            lines += _metric(name, figures)
    if spec.provenance:
        lines += ["## Where it comes from", ""]
        lines += [f"- {_words(key)}: {_text(value)}" for key, value in spec.provenance.items()]
        lines += [""]
    lines += ["## Limits", "", *(f"- {limit}" for limit in LIMITS), ""]
    return "\n".join(lines)


def _file_row(artifact: ManifestArtifact) -> str:
    names = ", ".join(file.name for file in artifact.files)
    return f"| {names} | {artifact.precision} | {sum(file.bytes for file in artifact.files):,} |"


def _sensitivity(table: SensitivityTable) -> Iterator[str]:
    yield "## What int8 harms"
    yield ""
    yield (
        "Harm of the int8 of one layer alone: mean change of the score + mean 1 - IoU of the box, on"
        f" {table.pictures} pictures. All {len(table.rows)} layers are in `{SENSITIVITY_NAME}`, and drawn in"
        f" `{SENSITIVITY_PLOT_NAME}`."
    )
    yield from ("", "| layer | kind | harm | kept in float |", "|---|---|---|---|")
    for row in table.ranked[:MOST_HARMFUL]:
        yield f"| {row.layer} | {row.kind} | {row.harm:.4f} | {'yes' if row.is_float else 'no'} |"
    in_float = [row.layer for row in table.rows if row.is_float]
    if in_float:
        yield from ("", f"Kept in float: {', '.join(in_float)}.")
    yield ""


def _metric(name: str, figures: Any) -> Iterator[str]:
    if not isinstance(figures, Mapping):
        yield from (f"{_words(name)}: {_text(figures)}", "")
        return
    classes = figures.get("classes")
    rest = ", ".join(f"{key} {_text(value)}" for key, value in figures.items() if key != "classes")
    yield from (f"### {_words(name)}", "", rest, "")
    if isinstance(classes, Mapping) and all(isinstance(row, Mapping) for row in classes.values()):
        columns = list(dict.fromkeys(key for row in classes.values() for key in row))
        yield f"| class | {' | '.join(columns)} |"
        yield "|---" * (len(columns) + 1) + "|"
        for label, row in classes.items():
            yield f"| {label} | {' | '.join(_text(row.get(column, '')) for column in columns)} |"
        yield ""


def _words(key: str) -> str:
    return str(key).replace("_", " ")


def _text(value: Any) -> str:
    """One line of Markdown."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(key)} {_text(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return " ".join(str(value).split())
