"""Which detections are right, as COCO decides: what its AP is computed from, picture by picture.

Within a picture and a class, detections by descending score each take the best box that is still free, if
the IoU reaches the threshold. One that reaches none but lies in a crowd counts neither way; a crowd takes
as many as come. Only the first 100 of a picture and class are looked at.

D  detections of a class, in all pictures
P  pictures
N, M, K  detections, boxes and crowds of one picture and class
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fcos_edge.detections import Detections
from fcos_edge.matching import BoolArray, DoubleArray
from fcos_edge.runtime import FloatArray, IntArray
from fcos_edge.train.data.formats.coco import read_bbox
from fcos_edge.train.evaluation.coco_figures import category_ids
from fcos_edge.train.evaluation.evaluate import LabelledSplit

MATCH_IOUS = np.linspace(0.5, 0.95, 10)  # to the last bit those of COCO's evaluators
MAX_DETECTIONS = 100


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """The detections of one class, best first; those of equal scores by ascending image id.

    picture  (D,) int64, index into the split's pictures
    scores   (D,) float32, descending
    is_hit   (10, D) bool, at each of `MATCH_IOUS`
    counts   (10, D) bool; False: it only matches a crowd, and is neither right nor wrong
    boxes    (P,) int64, boxes to find in each picture; crowds are none
    """

    picture: IntArray
    scores: FloatArray
    is_hit: BoolArray
    counts: BoolArray
    boxes: IntArray

    def hits_at(self, threshold: float) -> IntArray:
        """(P,) int64: boxes of each picture that are found, at IoU 0.5, with a score of at least `threshold`.

        As float32, as `Detections.filtered` compares. Those below never take a box from one above, so
        that nothing needs matching again.
        """
        return self._per_picture(self.is_hit[0], threshold)

    def count_at(self, threshold: float) -> IntArray:
        """(P,) int64: detections of each picture that score at least `threshold` and count at IoU 0.5."""
        return self._per_picture(self.counts[0], threshold)

    def _per_picture(self, chosen: BoolArray, threshold: float) -> IntArray:
        rows = chosen & (self.scores >= np.float32(threshold))
        return np.bincount(self.picture[rows], minlength=len(self.boxes)).astype(np.int64)


_Boxes = defaultdict[tuple[int, int], list[tuple[float, float, float, float]]]


@dataclass(frozen=True, eq=False)
class LabelledBoxes:
    """Boxes and crowds, x y width height, by picture (its index) and label, in the annotations' order."""

    boxes: _Boxes
    crowds: _Boxes

    def of(self, place: int, label: int) -> tuple[DoubleArray, DoubleArray]:
        """(M, 4) boxes and (K, 4) crowds of one picture and class."""
        boxes, crowds = self.boxes[place, label], self.crowds[place, label]
        return np.array(boxes, np.float64).reshape(-1, 4), np.array(crowds, np.float64).reshape(-1, 4)


def read_boxes(labelled: LabelledSplit) -> LabelledBoxes:
    """What is to be found, as COCO's evaluators read it from the document."""
    place_of = {picture.image_id: place for place, picture in enumerate(labelled.pictures)}
    ids = category_ids(labelled.document, labelled.classes)
    label_of = {category_id: label for label, category_id in enumerate(ids)}
    boxes: _Boxes = defaultdict(list)
    crowds: _Boxes = defaultdict(list)
    for entry in labelled.document["annotations"]:
        if entry["image_id"] in place_of and entry["category_id"] in label_of:
            key = (place_of[entry["image_id"]], label_of[entry["category_id"]])
            (crowds if entry.get("iscrowd") else boxes)[key].append(read_bbox(entry))
    return LabelledBoxes(boxes, crowds)


def match_split(labelled: LabelledSplit, found: Sequence[Detections]) -> tuple[ClassMatches, ...]:
    """The matches of each of the split's classes.

    found: picture by picture, with labels into the split's classes
    """
    truth = read_boxes(labelled)
    rows: list[list[_PictureMatches]] = [[] for _ in labelled.classes]
    by_id = sorted(range(len(labelled.pictures)), key=lambda place: labelled.pictures[place].image_id)
    for place in by_id:
        detections = found[place]
        boxes_xywh = to_xywh(detections.boxes_xyxy)
        for label in np.unique(detections.labels).tolist():
            chosen = np.flatnonzero(detections.labels == label)[:MAX_DETECTIONS]
            taken, counts = match_boxes(boxes_xywh[chosen], *truth.of(place, label))
            rows[label].append(_PictureMatches(place, detections.scores[chosen], taken >= 0, counts))
    matches = []
    for label, pictures in enumerate(rows):
        per_picture = [len(truth.boxes[place, label]) for place in range(len(labelled.pictures))]
        matches.append(_join(pictures, np.array(per_picture, np.int64)))
    return tuple(matches)


def match_boxes(
    found_xywh: DoubleArray, boxes_xywh: DoubleArray, crowds_xywh: DoubleArray
) -> tuple[IntArray, BoolArray]:
    """Detections of one picture and class: the box that each takes, and whether it counts.

    found_xywh: (N, 4), best first; boxes_xywh: (M, 4); crowds_xywh: (K, 4)
    returns:    (10, N) int64, index into the boxes, -1 where it is no hit; (10, N) bool
    """
    taken = np.full((len(MATCH_IOUS), len(found_xywh)), -1, np.int64)
    # The last first: of boxes with the same IoU COCO takes the last, argmax the first.
    iou = overlaps(found_xywh, boxes_xywh[::-1], is_crowd=False)
    is_free = np.ones((len(MATCH_IOUS), iou.shape[1]), np.bool_)
    for i in np.flatnonzero(iou.max(axis=1, initial=0) >= MATCH_IOUS[0]):
        can_take = is_free & (iou[i] >= MATCH_IOUS[:, None])
        levels = np.flatnonzero(can_take.any(axis=1))
        best = np.where(can_take, iou[i], -1).argmax(axis=1)[levels]
        taken[levels, i] = iou.shape[1] - 1 - best
        is_free[levels, best] = False
    in_crowd = overlaps(found_xywh, crowds_xywh, is_crowd=True).max(axis=1, initial=0)
    return taken, (taken >= 0) | (in_crowd < MATCH_IOUS[:, None])


def to_xywh(boxes_xyxy: FloatArray) -> DoubleArray:
    """As `coco_results` writes them: the sides are rounded to float32."""
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return np.concatenate([boxes_xyxy[:, :2], sides], axis=1).astype(np.float64)


def overlaps(found_xywh: DoubleArray, truth_xywh: DoubleArray, *, is_crowd: bool) -> DoubleArray:
    """(N, M): IoU; of crowds the part of the detection that lies inside.

    In COCO's own order of operations, so that an IoU at the threshold falls on the same side.
    """
    a, b = found_xywh[:, None], truth_xywh[None]
    ends = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    sides = np.maximum(ends - np.maximum(a[..., :2], b[..., :2]), 0)
    shared = sides[..., 0] * sides[..., 1]
    whole = np.broadcast_to(a[..., 2] * a[..., 3], shared.shape)
    if not is_crowd:
        whole = whole + b[..., 2] * b[..., 3] - shared
    return np.asarray(np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0))


@dataclass(frozen=True, eq=False)
class _PictureMatches:
    """One picture and class: scores (N,), is_hit and counts (10, N)."""

    place: int
    scores: FloatArray
    is_hit: BoolArray
    counts: BoolArray


def _join(pictures: Sequence[_PictureMatches], boxes: IntArray) -> ClassMatches:
    nothing = np.zeros((len(MATCH_IOUS), 0), np.bool_)
    picture = np.repeat([row.place for row in pictures], [len(row.scores) for row in pictures])
    scores = np.concatenate([np.zeros(0, np.float32), *(row.scores for row in pictures)])
    is_hit = np.concatenate([nothing, *(row.is_hit for row in pictures)], axis=1)
    counts = np.concatenate([nothing, *(row.counts for row in pictures)], axis=1)
    order = np.argsort(-scores, kind="stable")
    return ClassMatches(
        picture[order].astype(np.int64), scores[order], is_hit[:, order], counts[:, order], boxes
    )
