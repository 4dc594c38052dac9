"""Evaluation by several processes (gloo, on this machine): the figures are those of one, to the last bit."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from fcos_edge.detector import Detector
from fcos_edge.errors import ImageError
from fcos_edge.spec import ModelSpec
from fcos_edge.train.config import NetworkConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.data.formats import read_pictures
from fcos_edge.train.evaluation.coco_figures import compare_with_pictures
from fcos_edge.train.evaluation.sharded import sharded_candidates
from fcos_edge.train.model import Fcos
from fcos_edge.train.torch_runtime import TorchRuntime
from tests.coco_sets import CLASSES, make_coco_set

WORLD = 2
# Shares of 3 and 2 pictures; fewer pictures than processes.
COUNTS = (5, 1)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "val", max(COUNTS))


def _detector() -> Detector:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = NetworkConfig(len(CLASSES), fpn_channels=16, tower_depth=1)
    network = Fcos(config)
    # An untrained network is sure of nothing: let it find something everywhere.
    assert network.head.logits.bias is not None
    torch.nn.init.zeros_(network.head.logits.bias)
    spec = ModelSpec("x", CLASSES, (96, 96), config.mean, config.std)
    return Detector(TorchRuntime(network, spec), spec, (0.5, 0.5))


def _measured(detector: Detector, pictures: list[LabelledPicture], rank: int, world: int) -> dict[str, Any]:
    found = sharded_candidates(detector, pictures, "test", rank, world)
    scores = [detections.scores.tolist() for detections in found]
    return {"scores": scores, **asdict(compare_with_pictures(found, pictures, CLASSES))}


def _process(rank: int, port: int, shapes: Path, out: Path) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    pictures, detector = read_pictures(shapes, "val", CLASSES), _detector()
    measured = [_measured(detector, pictures[:count], rank, WORLD) for count in COUNTS]
    (out / f"measured{rank}.json").write_text(json.dumps(measured))
    assert sharded_candidates(detector, [], "test", rank, WORLD) == []
    # The last process alone meets this picture, and all say so.
    pictures[WORLD - 1] = replace(pictures[WORLD - 1], path=shapes / "missing.png")
    with pytest.raises(ImageError, match=r"missing\.png: cannot read the picture"):
        sharded_candidates(detector, pictures, "test", rank, WORLD)
    dist.destroy_process_group()


@pytest.mark.slow
def test_sharded_candidates__every_process_has_the_figures_of_one(shapes: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_process, (port, shapes, tmp_path), nprocs=WORLD)  # type: ignore[no-untyped-call]
    pictures, detector = read_pictures(shapes, "val", CLASSES), _detector()
    wanted = [_measured(detector, pictures[:count], 0, 1) for count in COUNTS]
    assert all(len(scores) > 0 for scores in wanted[0]["scores"])
    for rank in range(WORLD):
        measured = json.loads((tmp_path / f"measured{rank}.json").read_text())
        assert measured == json.loads(json.dumps(wanted))  # tuples become lists
