"""What a data check found in data sets, and what each rule makes of it.

listed    kept, and reported
excluded  the picture or box is left out of training: `apply` does it
refused   training does not start: `DataReport.raise_if_refused`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fcos_edge.errors import DataError, UsageError
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.data.labels import UNKNOWN_HW
from fcos_edge.train.data.licensed import LicenceCount, licence_lines, require_some
from fcos_edge.train.data.picture_files import PictureFile

Rule = Literal["listed", "excluded", "refused"]

EXAMPLES = 3  # of each kind that people are shown


@dataclass(frozen=True)
class Kind:
    """One thing that is looked for. `rules`: those that can be chosen, the first by default."""

    name: str
    what: str
    rules: tuple[Rule, ...]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("missing", "missing pictures", ("refused", "excluded")),
        Kind("unreadable", "unreadable pictures", ("refused", "excluded")),
        Kind("bad_label", "unreadable labels", ("refused",)),
        Kind("unknown_class", "boxes of a class that the data set does not define", ("refused",)),
        Kind("no_picture", "boxes of a picture that the data set does not have", ("listed", "refused")),
        Kind("listed_twice", "pictures that are there twice, each with labels of its own", ("refused",)),
        # Its boxes are in pixels of another picture, and nobody knows which.
        Kind("wrong_size", "pictures of another size than stated", ("excluded", "listed", "refused")),
        Kind("no_area", "boxes without area", ("excluded", "refused")),
        Kind("outside", "boxes outside of the picture", ("excluded", "refused")),
        Kind("partly_outside", "boxes partly outside, which are clipped", ("listed", "refused")),
        Kind("duplicate_box", "boxes that are there twice", ("listed", "excluded", "refused")),
        Kind("duplicate_picture", "copies of a picture in one split", ("listed", "excluded", "refused")),
        Kind("in_both", "pictures that are in the training split and in another", ("refused", "excluded")),
    )
}


@dataclass(frozen=True)
class Finding:
    """`place`: the picture's file, or the label file."""

    kind: str
    place: Path
    detail: str


@dataclass(frozen=True)
class SetCounts:
    """One split of a data set, as far as the classes asked for go.

    without_boxes  pictures that train as background
    boxes          per class, in the classes' order; crowd and difficult boxes are `ignored`
    other_boxes    of classes that were not asked for
    sha256         of the pictures' contents and all labels, in their order
    licences       of all pictures, where these were chosen by them; all other counts are of the chosen ones
    """

    path: Path
    split: str
    pictures: int
    without_boxes: int
    boxes: dict[str, int]
    ignored: int
    other_boxes: int
    sha256: str
    licences: tuple[LicenceCount, ...] = ()


@dataclass(frozen=True, eq=False)
class DataReport:
    """What was found.

    rules     per kind
    files     by path; empty where pictures were not looked at
    left_out  pictures that do not train
    """

    sets: tuple[SetCounts, ...]
    findings: tuple[Finding, ...]
    rules: Mapping[str, Rule]
    files: Mapping[Path, PictureFile]
    left_out: frozenset[Path]

    def of(self, kind: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def counts(self) -> dict[str, int]:
        """Findings per kind, those without any too."""
        return {kind: len(self.of(kind)) for kind in KINDS}

    def raise_if_refused(self) -> None:
        """Raise DataError where anything was found that training refuses, or no licence leaves a picture."""
        chosen = [counts for counts in self.sets if counts.licences]
        require_some(
            [counts.path for counts in chosen], [one for counts in chosen for one in counts.licences]
        )
        refused = [kind for kind, count in self.counts.items() if count and self.rules[kind] == "refused"]
        if not refused:
            return
        what = ", ".join(f"{KINDS[kind].what} ({self.counts[kind]})" for kind in refused)
        first = self.of(refused[0])[0]
        advice = "mend the data"
        if choices := [kind for kind in refused if "excluded" in KINDS[kind].rules]:
            advice += f", or exclude {', '.join(choices)}"
        raise DataError(f"{first.place}: {first.detail}; the data check refuses {what}; {advice}")

    def lines(self) -> list[str]:
        """The report for people: each set, what was found with its rule, and what was not."""
        lines = []
        for counts in self.sets:
            boxes = sum(counts.boxes.values())
            lines.append(
                f"{counts.path} {counts.split}: {counts.pictures} pictures ({counts.without_boxes} without"
                f" boxes), {boxes} boxes, {counts.ignored} ignored, {counts.other_boxes} of other classes"
            )
            lines += licence_lines(counts.licences)
            empty = [name for name, count in counts.boxes.items() if not count]
            if empty and counts.pictures:
                more = f" and {len(empty) - 10} more" if len(empty) > 10 else ""
                lines.append(f"  no box of {', '.join(empty[:10])}{more}")
        for kind in KINDS.values():
            found = self.of(kind.name)
            if not found:
                continue
            lines.append(f"{self.rules[kind.name]}: {kind.what}: {len(found)} ({kind.name})")
            # A file's name may hold a line break.
            lines += [" ".join(f"  {one.place}: {one.detail}".splitlines()) for one in found[:EXAMPLES]]
            if len(found) > EXAMPLES:
                lines.append(f"  and {len(found) - EXAMPLES} more")
        for rule in ("refused", "excluded", "listed"):
            absent = [kind for kind in KINDS if self.rules[kind] == rule and not self.of(kind)]
            if absent:
                lines.append(f"not found (would be {rule}): {', '.join(absent)}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        return {
            "sets": [
                {
                    "path": str(counts.path), "split": counts.split, "pictures": counts.pictures,
                    "without_boxes": counts.without_boxes, "boxes": counts.boxes,
                    "ignored": counts.ignored, "other_boxes": counts.other_boxes, "sha256": counts.sha256,
                    **({"licences": [one.to_dict() for one in counts.licences]} if counts.licences else {}),
                }
                for counts in self.sets
            ],
            "counts": self.counts,
            "rules": dict(self.rules),
            "findings": [
                {"kind": finding.kind, "place": str(finding.place), "detail": finding.detail}
                for finding in self.findings
            ],
        }  # fmt: skip


def choose_rules(given: Mapping[str, Rule]) -> dict[str, Rule]:
    """The rule of every kind. Raises UsageError for a kind or rule that there is not."""
    for name, rule in given.items():
        if name not in KINDS:
            raise UsageError(f"data check: {name!r} is not looked for; choose from {', '.join(KINDS)}")
        if rule not in KINDS[name].rules:
            wanted = " or ".join(KINDS[name].rules)
            raise UsageError(f"data check: {name} cannot be {rule}; choose {wanted}")
    return {name: given.get(name, kind.rules[0]) for name, kind in KINDS.items()}


def apply(report: DataReport, pictures: Sequence[LabelledPicture]) -> list[LabelledPicture]:
    """The pictures that train: those that are excluded left out, boxes clipped, `size_hw` as it really is.

    Boxes that then have no area are left out. Raises DataError where no picture is left.
    """
    kept = []
    for picture in pictures:
        if picture.path in report.left_out:
            continue
        file = report.files.get(picture.path, PictureFile())
        size_hw = picture.size_hw if file.size_hw == UNKNOWN_HW else file.size_hw
        boxes, labels = picture.boxes_xyxy, picture.labels
        if size_hw != UNKNOWN_HW:
            height, width = size_hw
            boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
            has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
            boxes, labels = boxes[has_area], labels[has_area]
        if report.rules["duplicate_box"] == "excluded":
            first = firsts(np.column_stack([boxes, labels]))
            boxes, labels = boxes[first], labels[first]
        kept.append(replace(picture, boxes_xyxy=boxes, labels=labels, size_hw=size_hw))
    if pictures and not kept:
        raise DataError(f"the data check excludes all {len(pictures)} pictures; mend the data")
    return kept


def firsts(rows: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Places of the rows that no row before is equal to, ascending."""
    return np.sort(np.unique(rows, axis=0, return_index=True)[1])
