"""Learning from another detector: what it says of the same views, beside what the labels say.

t, s  teacher and student
p     class probability
w     the teacher's largest class probability at a location
W     the sum of w over all locations of the batch, averaged over workers, at least 1 for all together
B, L, C  as in predictions

classes     sum of (p_t - p_s)^2 (-p_t ln p_s - (1 - p_t) ln(1 - p_s)), all locations and classes, over W
boxes       sum of w (1 - GIoU of their boxes), over W
centerness  sum of w (binary cross-entropy of their center-nesses), over W

The class term is quality focal loss (arXiv 2006.04388) with the teacher's probability as the soft score, over
W as Dense Teacher has it for FCOS (arXiv 2207.02541; there of the highest 1 % of locations, here of all: of W
most is where the teacher sees something, so nothing needs to be chosen). Class by class, and boxes by IoU
with the weight of their class, is what arXiv 2308.14286 found to be right for detectors with sigmoids.

Labels are not asked: where nobody labelled an object, in an ignore region or in the padding, the teacher
still says what it sees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from fcos_edge.errors import UsageError
from fcos_edge.spec import ModelSpec
from fcos_edge.train.config import CheckpointFile, DistillConfig, NetworkConfig
from fcos_edge.train.model import Fcos
from fcos_edge.train.overlap import giou_loss
from fcos_edge.train.predictions import Predictions
from fcos_edge.train.start import load_same


@dataclass(frozen=True, eq=False)
class Teacher:
    """A detector that another one learns from.

    network  in evaluation mode; its weights stay
    terms    weights of the loss
    """

    network: Fcos
    config: NetworkConfig
    terms: DistillConfig


class Lesson(NamedTuple):
    """What the teacher says of a batch, without gradient.

    classes     (B, L, C), probabilities
    ltrb        (B, L, 4), input pixels
    centerness  (B, L), probabilities
    weights     (B, L), w
    """

    classes: Tensor
    ltrb: Tensor
    centerness: Tensor
    weights: Tensor


def make_teacher(file: CheckpointFile, spec: ModelSpec, terms: DistillConfig) -> Teacher:
    """The teacher of a run whose detector has `spec`, on the CPU.

    Where one of the two has no center-ness, it is not taught.

    Raises UsageError where its classes or strides are not the run's, CheckpointError where the file is not
    the one that the run began with.
    """
    path = Path(file.checkpoint)
    checkpoint = load_same(path, file.sha256)
    for name, own, wanted in (
        ("classes", checkpoint.spec.classes, spec.classes),
        ("strides", checkpoint.spec.strides, spec.strides),
    ):
        if own != wanted:
            found, expected = (", ".join(map(str, values)) for values in (own, wanted))
            raise UsageError(
                f"--teacher {path.name}: its {name} are {found}, the run's {expected}; give a teacher that"
                " has the run's, in their order"
            )
    if "class" in (checkpoint.spec.score, spec.score):
        terms = replace(terms, centerness=0.0)
    return Teacher(checkpoint.network.requires_grad_(False), checkpoint.network_config, terms)


def lesson_of(predictions: Predictions) -> Lesson:
    """What the teacher's predictions teach; distances in input pixels."""
    classes = predictions.logits.sigmoid()
    return Lesson(classes, predictions.ltrb, predictions.centerness.sigmoid(), classes.amax(-1))


def distill_loss(predictions: Predictions, lesson: Lesson, terms: DistillConfig, total: Tensor) -> Tensor:
    """The three terms, each times its weight, as one scalar.

    predictions  of the student, distances in input pixels
    total        scalar, W
    """
    loss = predictions.logits.new_zeros(())
    if terms.classes:
        loss = loss + terms.classes * _class_sum(predictions.logits, lesson.classes)
    if terms.boxes:
        loss = loss + terms.boxes * (lesson.weights * giou_loss(predictions.ltrb, lesson.ltrb)).sum()
    if terms.centerness:
        entropy = F.binary_cross_entropy_with_logits(
            predictions.centerness, lesson.centerness, lesson.weights, reduction="sum"
        )
        loss = loss + terms.centerness * entropy
    return loss / total


def _class_sum(logits: Tensor, wanted: Tensor) -> Tensor:
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return ((wanted - logits.sigmoid()).square() * entropy).sum()
