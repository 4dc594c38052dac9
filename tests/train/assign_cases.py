"""Random batches for the assignments: grids, boxes, predictions, and the comparison with an oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st

from fcos_edge.train.assign import assign
from fcos_edge.train.config import AssignConfig
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.targets import BACKGROUND, IGNORED, Targets, Truth, make_locations
from tests.train import oracles_assign
from tests.train.oracles import Box
from tests.train.oracles_assign import Place, UndecidedError

CPU = torch.device("cpu")
CLASSES = 3
# A box, or padding; labels beside them.
Picture = list[tuple[Box, int]]
PADDING = ((0.0, 0.0, 0.0, 0.0), BACKGROUND)


@dataclass(frozen=True)
class Grid:
    input_hw: tuple[int, int]
    strides: tuple[int, ...]
    ranges: tuple[tuple[float, float], ...]


INFINITE = float("inf")
GRIDS = (
    Grid((64, 96), (8, 16, 32), ((0, 16), (16, 40), (40, INFINITE))),
    Grid((40, 72), (8,), ((0, INFINITE),)),  # one level
    Grid((32, 160), (8, 16, 32, 64), ((0, 8), (8, 32), (16, 64), (30, 96))),  # levels of one row; overlaps
    Grid((100, 60), (8, 16), ((4, 20), (20, 64))),  # sides that no stride divides
)


@st.composite
def labelled_boxes(draw: st.DrawFn) -> tuple[Box, int]:
    """Whole and half pixels: sums and areas are exact, so float32 and float64 see the same ties."""
    # From tiny to larger than the picture, and partly or wholly beside it.
    width, height = (draw(st.sampled_from((0, 1, 5, 16, 31, 40, 64, 110, 200, 360))) for _ in "xy")
    x, y = draw(st.integers(-60, 340)), draw(st.integers(-60, 220))
    return (x / 2, y / 2, (x + width) / 2, (y + height) / 2), draw(
        st.sampled_from((0, 1, 2, 0, 1, 2, IGNORED))
    )


@st.composite
def pictures(draw: st.DrawFn) -> list[Picture]:
    """A batch; some pictures have no boxes, some a box twice, some padding in the middle."""
    batch = []
    for _ in range(draw(st.integers(1, 3))):
        picture = draw(st.lists(labelled_boxes(), max_size=6))
        repeats, pads = draw(st.tuples(st.booleans(), st.booleans()))
        if picture and repeats:
            # The same one, or a larger one around it: they want the same locations.
            x1, y1, x2, y2 = picture[0][0]
            more = draw(st.sampled_from((0, 0, 3, 8)))
            around = (x1 - more, y1 - more, x2 + more, y2 + more)
            picture.insert(draw(st.integers(0, len(picture))), (around, draw(st.integers(0, 2))))
        if pads:
            picture.insert(draw(st.integers(0, len(picture))), PADDING)
        batch.append(picture)
    return batch


def truth_of(batch: Sequence[Picture]) -> Truth:
    most = max(map(len, batch))
    rows = [[*picture, *[PADDING] * (most - len(picture))] for picture in batch]
    boxes = torch.tensor([[box for box, _ in row] for row in rows], dtype=torch.float32)
    labels = torch.tensor([[label for _, label in row] for row in rows], dtype=torch.int64)
    return Truth(boxes.view(len(batch), most, 4), labels.view(len(batch), most))


def predict(batch: Sequence[Picture], where: Sequence[Place], seed: int) -> Predictions:
    """Half of the predicted boxes are near one of the picture's, the others are anything."""
    rng = np.random.default_rng(seed)
    shape = (len(batch), len(where))
    ltrb = rng.uniform(0, 60, (*shape, 4))
    for index, picture in enumerate(batch):
        for i, place in enumerate(where):
            if picture and rng.random() < 0.7:
                box, _ = picture[rng.integers(len(picture))]
                ltrb[index, i] = np.maximum(oracles_assign.sides(place, box), 0) * rng.uniform(0.7, 1.3, 4)
    ltrb[rng.random((*shape, 4)) < 0.02] = 0  # where ReLU has died
    logits = rng.normal(-1, 2, (*shape, CLASSES))
    return Predictions(torch.from_numpy(logits).float(), torch.from_numpy(ltrb).float(), torch.zeros(shape))


def run(config: AssignConfig, grid: Grid, batch: Sequence[Picture], predictions: Predictions) -> Targets:
    locations = make_locations(grid.input_hw, grid.strides, config, CPU)
    return assign(predictions, truth_of(batch), locations, config)


# Gets the picture's number, where the locations are, its boxes and its labels.
Matcher = Callable[[int, Sequence[Place], Sequence[Box], Sequence[int]], Sequence[int]]


def assert_is(found: Targets, grid: Grid, batch: Sequence[Picture], oracle: Matcher) -> None:
    """Every location of every picture has the oracle's target; undecided cases are passed over."""
    where = oracles_assign.places(grid.input_hw, grid.strides)
    for index, picture in enumerate(batch):
        boxes, labels = [box for box, _ in picture], [label for _, label in picture]
        try:
            matched = oracle(index, where, boxes, labels)
        except UndecidedError:
            assume(False)
        wanted = oracles_assign.targets(matched, where, boxes, labels)
        assert found.labels[index].tolist() == [target.label for target in wanted]
        is_positive = np.array([target.label >= 0 for target in wanted])
        # float32 differences of numbers below 1000.
        np.testing.assert_allclose(
            found.ltrb[index].numpy()[is_positive],
            np.array([target.ltrb for target in wanted if target.label >= 0]).reshape(-1, 4),
            atol=1e-4,
        )
        # float32 square root of a product of two quotients.
        np.testing.assert_allclose(
            found.centerness[index].numpy(), [target.centerness for target in wanted], atol=1e-6
        )
