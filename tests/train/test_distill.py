"""Learning from a teacher: the loss against plain loops, and small runs that do it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import save_checkpoint
from fcos_edge.train.config import AssignConfig, DistillConfig, NetworkConfig, OptimizerConfig, TrainConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.data.formats import read_pictures
from fcos_edge.train.distill import Teacher, distill_loss, lesson_of, make_teacher
from fcos_edge.train.loop import train
from fcos_edge.train.model import Fcos
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.processes import Processes
from fcos_edge.train.run_files import METRICS_FILE
from fcos_edge.train.start import checkpoint_file_of
from tests.coco_sets import CLASSES, make_coco_set
from tests.small_checkpoint import small_checkpoint
from tests.train import oracles

TERMS = {
    "all": DistillConfig(),
    "classes": DistillConfig(boxes=0, centerness=0),
    "boxes": DistillConfig(classes=0, centerness=0),
    "weighted": DistillConfig(2.0, 0.5, 3.0),
}
# Nothing in this network depends on how a batch is cut.
NETWORK = NetworkConfig(
    len(CLASSES), fpn_channels=16, tower_depth=1, convs="plain", head_norm="none", strides=(8, 16, 32)
)
CONFIG = TrainConfig(
    NETWORK, input_hw=(64, 64), epochs=2, batch_size=4,
    assign=AssignConfig(ranges=((0, 32), (32, 64), (64, float("inf")))),
    optimizer=OptimizerConfig(learning_rate=5e-3, reference_batch=4, warmup_steps=2), freeze_stages=3,
)  # fmt: skip
# One that learns in a few steps.
LEARNING = replace(
    CONFIG, network=replace(NETWORK, convs="separable", head_norm="batch"), epochs=12, batch_size=1,
    optimizer=replace(CONFIG.optimizer, reference_batch=1),
)  # fmt: skip


def _drawn(seed: int) -> Predictions:
    """Of two pictures with five locations and three classes."""
    generator = torch.Generator().manual_seed(seed)
    logits, ltrb, centerness = (
        torch.randn(2, 5, *shape, generator=generator, dtype=torch.float64) for shape in ((3,), (4,), ())
    )
    return Predictions(2 * logits, 20 * ltrb.abs() + 1, centerness)


def _oracle(student: Predictions, teacher: Predictions, terms: DistillConfig, total: float) -> float:
    loss = 0.0
    for picture in range(2):
        for location in range(5):

            def of(predictions: Predictions, branch: str, at: tuple[int, int] = (picture, location)) -> Any:
                return getattr(predictions, branch)[at].tolist()

            def corners(ltrb: Sequence[float]) -> oracles.Box:
                return -ltrb[0], -ltrb[1], ltrb[2], ltrb[3]

            wanted = [_sigmoid(x) for x in of(teacher, "logits")]
            for logit, p in zip(of(student, "logits"), wanted, strict=True):
                loss += terms.classes * oracles.quality_focal(logit, p)
            giou = oracles.giou(corners(of(student, "ltrb")), corners(of(teacher, "ltrb")))
            loss += terms.boxes * max(wanted) * (1 - giou)
            entropy = oracles.binary_cross_entropy(
                of(student, "centerness"), _sigmoid(of(teacher, "centerness"))
            )
            loss += terms.centerness * max(wanted) * entropy
    return loss / total


def _sigmoid(x: float) -> float:
    return float(torch.tensor(x, dtype=torch.float64).sigmoid())


@pytest.mark.parametrize("name", TERMS)
def test_distill_loss__is_what_loops_give_and_so_is_its_slope(name: str) -> None:
    student, teacher, total = _drawn(1), _drawn(2), torch.tensor(7.0, dtype=torch.float64)
    leaves = Predictions(*(branch.requires_grad_() for branch in student))
    loss = distill_loss(leaves, lesson_of(teacher), TERMS[name], total)
    assert loss.item() == pytest.approx(_oracle(student, teacher, TERMS[name], 7.0), rel=1e-12)
    slopes = torch.autograd.grad(loss, list(leaves), allow_unused=True, materialize_grads=True)
    step = 1e-5
    for branch, slope in enumerate(slopes):
        for index in range(0, slope.numel(), 7):  # every seventh shows as much as all
            ends = []
            for move in (step, -step):
                moved = [part.detach().clone() for part in student]
                moved[branch].view(-1)[index] += move
                ends.append(_oracle(Predictions(*moved), teacher, TERMS[name], 7.0))
            # Differences of float64 numbers around 1, over 2e-5: about 1e-11 of rounding, 1e-10 of curvature.
            assert slope.flatten()[index].item() == pytest.approx((ends[0] - ends[1]) / 2 / step, abs=1e-8)


def test_distill_loss__equal_to_the_teacher_there_is_nothing_to_learn() -> None:
    teacher = _drawn(3)
    leaves = Predictions(*(branch.clone().requires_grad_() for branch in teacher))
    loss = distill_loss(leaves, lesson_of(teacher), DistillConfig(centerness=0), torch.ones(()))
    assert loss.item() == pytest.approx(0, abs=1e-12)
    for slope in torch.autograd.grad(loss, list(leaves)[:2]):
        torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)
    # Entropy has a floor that is not 0, and no slope there.
    loss = distill_loss(leaves, lesson_of(teacher), DistillConfig(0, 0, 1), torch.ones(()))
    (slope,) = torch.autograd.grad(loss, [leaves.centerness])
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "small.safetensors"
    save_checkpoint(path, small_checkpoint())
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("b", "a")}, "its classes are a, b, the run's b, a; give a teacher that has the run's"),
        ({"classes": ("a",)}, "its classes are a, b, the run's a;"),
        ({"strides": (8, 16, 32)}, "its strides are 8, 16, 32, 64, 128, the run's 8, 16, 32;"),
    ],
)
def test_make_teacher__another_detector(stored: Path, change: dict[str, Any], message: str) -> None:
    spec = replace(small_checkpoint().spec, **change)
    with pytest.raises(UsageError, match=r"^--teacher small\.safetensors: [^\n]*$") as error:
        make_teacher(checkpoint_file_of(stored), spec, DistillConfig())
    assert message in str(error.value)


def test_make_teacher__center_ness_is_taught_where_both_have_it(stored: Path) -> None:
    spec, file = small_checkpoint().spec, checkpoint_file_of(stored)
    assert make_teacher(file, spec, DistillConfig()).terms == DistillConfig()
    assert make_teacher(file, replace(spec, score="class"), DistillConfig()).terms.centerness == 0
    with pytest.raises(CheckpointError, match="is another checkpoint than the run began with"):
        make_teacher(replace(file, sha256="0" * 64), spec, DistillConfig())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledPicture]:
    return read_pictures(make_coco_set(tmp_path_factory.mktemp("shapes"), "train", 4), "train", CLASSES)


@pytest.fixture(scope="module")
def teacher(pictures: list[LabelledPicture], tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """Of another head than most students here, and after some steps no longer the same everywhere."""
    torch.manual_seed(1)
    network, out = Fcos(LEARNING.network), tmp_path_factory.mktemp("teacher")
    average = train(LEARNING, network, pictures, out, loader_workers=0)
    return Teacher(average, LEARNING.network, DistillConfig())


def _learn(
    config: TrainConfig, pictures: list[LabelledPicture], out: Path, teacher: Teacher, **more: Any
) -> tuple[Fcos, Tensor]:
    """The average, and the four losses of each step."""
    out.mkdir(exist_ok=True)
    losses: list[Tensor] = []
    torch.manual_seed(0)
    average = train(
        config, Fcos(config.network), pictures, out, loader_workers=0, teacher=teacher,
        on_step=lambda _, found: losses.append(found), **more,
    )  # fmt: skip
    return average, torch.stack(losses)


def test_train__learns_from_the_teacher(
    pictures: list[LabelledPicture], teacher: Teacher, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    terms = DistillConfig(centerness=0)  # that one has a floor
    _, losses = _learn(LEARNING, pictures, tmp_path, replace(teacher, terms=terms))
    assert losses.shape == (48, 4)
    rows = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    means = losses[:, 3].view(12, 4).mean(1).tolist()
    assert [row["loss_distill"] for row in rows] == pytest.approx(means, rel=1e-5)
    # 0.40 of the first was measured; views are random, so the last six.
    assert sum(means[-6:]) / 6 < 0.6 * means[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.network.state_dict().items())
    assert not teacher.network.training


def test_train__with_a_teacher_resume_goes_on(
    pictures: list[LabelledPicture], teacher: Teacher, tmp_path: Path
) -> None:
    straight, _ = _learn(CONFIG, pictures, tmp_path / "straight", teacher)

    def interrupt(epoch: int, *_: object) -> dict[str, Any]:
        if epoch == 2:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        _learn(CONFIG, pictures, tmp_path / "x", teacher, after_epoch=interrupt)
    resumed, _ = _learn(CONFIG, pictures, tmp_path / "x", teacher)
    own = resumed.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in straight.state_dict().items())


def test_train__micro_batches_with_a_teacher_make_the_same_step(
    pictures: list[LabelledPicture], teacher: Teacher, tmp_path: Path
) -> None:
    _, whole = _learn(CONFIG, pictures, tmp_path / "1", teacher)
    _, parts = _learn(replace(CONFIG, accumulate=4), pictures, tmp_path / "4", teacher)
    # Sums in another order: float32 rounding.
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_train__mixed_precision_with_a_teacher_follows_float(
    pictures: list[LabelledPicture], teacher: Teacher, tmp_path: Path
) -> None:
    _, wanted = _learn(CONFIG, pictures, tmp_path / "fp32", teacher)
    _, found = _learn(replace(CONFIG, precision="bf16"), pictures, tmp_path / "bf16", teacher)
    # bfloat16 has eight bits: 0.4 % a rounding, and some dozen of them one after the other.
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.01)
    assert not torch.equal(found, wanted)


def _work(rank: int, folder: str, pictures: list[LabelledPicture], stored: str, spec: ModelSpec) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    teacher = make_teacher(checkpoint_file_of(Path(stored)), spec, DistillConfig())
    processes = Processes(rank, 2)
    _, losses = _learn(CONFIG, pictures, Path(folder) / "two", teacher, processes=processes)
    torch.save(losses, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_train__two_processes_with_a_teacher_learn_as_one(
    pictures: list[LabelledPicture], teacher: Teacher, tmp_path: Path
) -> None:
    spec = replace(small_checkpoint().spec, strides=NETWORK.strides)
    path = tmp_path / "teacher.safetensors"
    kept = replace(small_checkpoint(), network=teacher.network, network_config=teacher.config, spec=spec)
    save_checkpoint(path, kept)
    loaded = make_teacher(checkpoint_file_of(path), spec, DistillConfig())
    _, one = _learn(CONFIG, pictures, tmp_path / "one", loaded)
    spawn(_work, (str(tmp_path), pictures, str(path), spec), nprocs=2)  # type: ignore[no-untyped-call]
    for rank in range(2):
        two = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        # Sums in another order: float32 rounding.
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)
