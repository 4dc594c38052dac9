"""The data check before training: what is wrong with data sets, by the kinds of train/data/data_report.py.

The split of the first set is the one that trains. Pictures are the same where their files' contents are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fcos_edge.train.data.data_report import DataReport, Finding, Rule, SetCounts, apply, choose_rules, firsts
from fcos_edge.train.data.formats import place_of, read_labels
from fcos_edge.train.data.labels import UNKNOWN_HW, Labels, PictureLabels
from fcos_edge.train.data.licence import Use
from fcos_edge.train.data.licensed import LicenceCount, keep_licensed
from fcos_edge.train.data.picture_files import PictureFile, look_at_files

__all__ = ["DataReport", "Rule", "apply", "check_data"]

# In pixels. Writers round, and some count from 0 where VOC counts from 1.
_OUTSIDE_BY = 1.0

_OF_PICTURES = frozenset({"missing", "unreadable", "wrong_size", "duplicate_picture", "in_both"})


def check_data(
    sets: Sequence[tuple[Path, str]],
    classes: Sequence[str] | None = None,
    *,
    rules: Mapping[str, Rule] | None = None,
    decode: bool = False,
    pictures: bool = True,
    licence: Use | None = None,
) -> DataReport:
    """Look over data sets, each a path and a split.

    classes   whose boxes are looked at; None takes all of each set
    rules     per kind, other than the default
    decode    decode every picture; otherwise headers and ends of files are looked at
    pictures  False: labels alone, for a data set whose pictures are elsewhere
    licence   of the split that trains only pictures whose record allows this use are looked at

    Raises DataError for labels that cannot be read at all, or lack one of `classes`.
    """
    chosen = choose_rules(rules or {})
    labels_of = [read_labels(path, split) for path, split in sets]
    licences: list[tuple[LicenceCount, ...]] = [()] * len(sets)
    for place, (_, split) in enumerate(sets):
        if licence is not None and split == sets[0][1]:
            labels_of[place], licences[place] = keep_licensed(labels_of[place], licence)
    paths = [picture.path for labels in labels_of for picture in labels.pictures] if pictures else []
    files = look_at_files(paths, decode=decode)
    findings: list[Finding] = []
    counts = []
    for (path, split), labels, of_licence in zip(sets, labels_of, licences, strict=True):
        names = tuple(labels.classes if classes is None else classes)
        asked = np.array([place_of(name, labels) for name in names])
        findings += [Finding(fault.kind, fault.place, fault.detail) for fault in labels.faults]
        for picture in labels.pictures:
            findings += _look_at_picture(picture, files.get(picture.path), asked)
        counts.append(replace(_count(path, split, labels, names, asked, files), licences=of_licence))
    splits = [split for _, split in sets]
    findings += _find_copies(list(zip(splits, labels_of, strict=True)), files)
    left_out = frozenset(
        finding.place
        for finding in findings
        if chosen[finding.kind] == "excluded" and finding.kind in _OF_PICTURES
    )
    return DataReport(tuple(counts), tuple(findings), chosen, files, left_out)


def _look_at_picture(
    picture: PictureLabels, file: PictureFile | None, asked: npt.NDArray[np.int64]
) -> Iterator[Finding]:
    if file is not None and file.fault:
        yield Finding(file.fault, picture.path, file.detail)
    size_hw = picture.size_hw
    if file is not None and file.size_hw != UNKNOWN_HW:
        if size_hw not in (UNKNOWN_HW, file.size_hw):
            stated, real = (f"{width}x{height}" for height, width in (size_hw, file.size_hw))
            yield Finding("wrong_size", picture.path, f"is {real}, the labels state {stated}")
            return  # every box would be in the wrong place
        size_hw = file.size_hw
    rows = np.isin(picture.classes, asked)
    boxes, labels = picture.boxes_xyxy[rows], picture.classes[rows]
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    for box in boxes[~has_area]:
        yield Finding("no_area", picture.path, f"box {_shown(box)}")
    boxes, labels = boxes[has_area], labels[has_area]
    if size_hw != UNKNOWN_HW:
        end_xy = np.array(size_hw[::-1])
        is_outside = ((boxes[:, 2:] <= 0) | (boxes[:, :2] >= end_xy)).any(axis=1)
        sticks_out = (boxes[:, :2] < -_OUTSIDE_BY) | (boxes[:, 2:] > end_xy + _OUTSIDE_BY)
        of_size = f"of a picture of {size_hw[1]}x{size_hw[0]}"
        for box in boxes[is_outside]:
            yield Finding("outside", picture.path, f"box {_shown(box)} {of_size}")
        for box in boxes[sticks_out.any(axis=1) & ~is_outside]:
            yield Finding("partly_outside", picture.path, f"box {_shown(box)} {of_size}")
    again = np.ones(len(boxes), bool)
    again[firsts(np.column_stack([boxes, labels]))] = False
    for box in boxes[again]:
        yield Finding("duplicate_box", picture.path, f"box {_shown(box)}")


def _find_copies(sets: Sequence[tuple[str, Labels]], files: Mapping[Path, PictureFile]) -> Iterator[Finding]:
    """Pictures that one split has twice, and those of the training split that another has."""
    first_of: dict[tuple[str, str], Path] = {}  # by split and content
    seen: set[tuple[str, Path]] = set()
    for split, labels in sets:
        for picture in labels.pictures:
            if (split, picture.path) in seen:
                yield Finding("listed_twice", picture.path, f"is there again in {labels.source}")
                continue
            seen.add((split, picture.path))
            first = first_of.setdefault((split, _content(picture.path, files)), picture.path)
            if first != picture.path:
                yield Finding("duplicate_picture", picture.path, f"is the same picture as {first}")
    training = sets[0][0] if sets else ""
    elsewhere = {content: (split, path) for (split, content), path in first_of.items() if split != training}
    for split, path in sorted(seen):
        if split == training and (other := elsewhere.get(_content(path, files))):
            yield Finding("in_both", path, f"is in {other[0]} too: {other[1]}")


def _content(path: Path, files: Mapping[Path, PictureFile]) -> str:
    """What makes a picture the same as another; of a file that could not be read its path."""
    return files.get(path, PictureFile()).sha256 or str(path)


def _count(
    path: Path,
    split: str,
    labels: Labels,
    names: Sequence[str],
    asked: npt.NDArray[np.int64],
    files: Mapping[Path, PictureFile],
) -> SetCounts:
    of_class = np.zeros(len(labels.classes), np.int64)
    without_boxes = ignored = others = 0
    digest = hashlib.sha256()
    for picture in labels.pictures:
        is_asked = np.isin(picture.classes, asked)
        is_ignored = picture.is_crowd | picture.is_difficult
        of_class += np.bincount(picture.classes[is_asked & ~is_ignored], minlength=len(of_class))
        ignored += int((is_asked & is_ignored).sum())
        others += int((~is_asked).sum())
        without_boxes += not is_asked.any()
        digest.update(files.get(picture.path, PictureFile()).sha256.encode())
        for array in (picture.boxes_xyxy, picture.classes, is_ignored):
            digest.update(array.tobytes())
    boxes = {name: int(of_class[place]) for name, place in zip(names, asked, strict=True)}
    return SetCounts(
        path, split, len(labels.pictures), without_boxes, boxes, ignored, others, digest.hexdigest()
    )


def _shown(box: npt.NDArray[np.float64]) -> str:
    return " ".join(f"{value:g}" for value in box.tolist())
