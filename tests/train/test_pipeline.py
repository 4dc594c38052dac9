"""Which pictures of a run's data sets train, and which are held out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from fcos_edge.train.pipeline import read_data
from fcos_edge.train.presets import SMOKE
from fcos_edge.train.processes import Processes
from fcos_edge.train.run import Run
from tests.coco_sets import CLASSES, make_coco_set


def test_read_data__a_part_of_the_pictures_is_of_all_sets(tmp_path: Path) -> None:
    sets = tuple(make_coco_set(tmp_path / name, "train", 8, seed) for seed, name in enumerate("ab"))
    processes = Processes(device=torch.device("cpu"))
    found = {}
    for most in (0, 6):
        plan = Run("x", CLASSES, sets, replace(SMOKE, max_images=most), held_out=4)
        found[most] = read_data(plan, processes, lambda _: None)
    paths = [picture.path for picture in found[6].training]
    assert len(found[0].training) == 12
    assert Counter(path.parents[1].name for path in paths) == {"a": 3, "b": 3}
    # A part of what trains otherwise, and measured on the same pictures.
    assert set(paths) < {picture.path for picture in found[0].training}
    assert [p.path for p in found[6].held_out] == [p.path for p in found[0].held_out]
