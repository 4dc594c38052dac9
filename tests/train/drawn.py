"""Boxes drawn on black pictures, and found again in a view of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fcos_edge.runtime import FloatArray, UInt8Array
from fcos_edge.train.views.augment import Labelled

# Each channel is all or nothing, so that one picture's colour is told from another's.
COLORS_RGB = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
# Interpolation is half way between colour and black where the box ends. So a pixel has the colour if its
# centre is inside, and the extent in whole pixels is up to half a pixel off on each side. The rest is for
# warpAffine, which takes source positions in steps of 1/32 pixel, and for the widest scale here, 2.7.
ATOL = 0.6


def draw(source_hw: tuple[int, int], box_xyxy: Sequence[int], kind: int) -> Labelled:
    """A BGR picture with one box of whole pixels, filled with the kind's colour; its label is the kind."""
    image = np.zeros((*source_hw, 3), np.uint8)
    x1, y1, x2, y2 = box_xyxy
    image[y1:y2, x1:x2] = COLORS_RGB[kind][::-1]
    return Labelled(image, np.array([box_xyxy], np.float32), np.array([kind]))


def extent(view_rgb: UInt8Array, kind: int) -> FloatArray | None:
    """x1 y1 x2 y2 of the pixels that have the kind's colour; None where there are none."""
    has_color = ((view_rgb > 127) == (np.array(COLORS_RGB[kind]) > 127)).all(axis=-1)
    rows, columns = np.nonzero(has_color)
    if not len(rows):
        return None
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)


def compare(view: Labelled, kinds: Sequence[int]) -> list[int]:
    """Check that each kind's box is where its colour is; the labels of boxes that were compared.

    A box is compared where at least 3 pixels of each side are left: less of it may show no pixel at all.
    """
    places = {kind: place for kind in kinds if (place := extent(view.image, kind)) is not None}
    compared = []
    for box, label in zip(view.boxes_xyxy, view.labels.tolist(), strict=True):
        if (box[2:] - box[:2]).min() < 3:
            continue
        # Which one an ignore region is, its place tells.
        kind = label if label >= 0 else min(places, key=lambda kind: float(np.abs(places[kind] - box).max()))
        np.testing.assert_allclose(box, places.pop(kind), atol=ATOL)
        compared.append(label)
    for place in places.values():  # compared with no box, so they are small or dropped
        assert (place[2:] - place[:2]).min() <= 3
    return compared
