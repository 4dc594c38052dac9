"""Quantization-aware training: a trained network goes on training as int8 computes it.

checkpoint -> record -> float twin with fake quantization -> the ordinary training loop -> weights + record

What comes out has the structure of the network that went in, and is exported like any other checkpoint; its
record says `qat` and is used as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fcos_edge import __version__
from fcos_edge.arguments import CALIBRATION_PICTURES
from fcos_edge.bundle import sha256_of
from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.image import read_image_bgr
from fcos_edge.quantize.add_scales import align_add_scales
from fcos_edge.quantize.calibrate import calibrate, finest_scale
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.fake_quantize import FakeQuantizedFcos
from fcos_edge.quantize.graph import Add, Conv, Graph, GroupNorm, Input, Selecting
from fcos_edge.quantize.recipe import DEFAULT_RECIPE, Recipe, parse_recipe
from fcos_edge.quantize.record import Point, Record, weight_scale_floors, weight_scales
from fcos_edge.quantize.refinements.equalization import equalized
from fcos_edge.runtime import FloatArray
from fcos_edge.sources import spread
from fcos_edge.train.checkpoint import BESIDE_SETTINGS, Checkpoint, load_checkpoint
from fcos_edge.train.config import AugmentConfig, QatConfig, TrainConfig
from fcos_edge.train.data.dataset import LabelledPicture
from fcos_edge.train.model import Fcos
from fcos_edge.train.presets import PRESETS, find_preset
from fcos_edge.train.run import provenance_of_both
from fcos_edge.train.run_files import RECORD_FILE
from fcos_edge.train.start import load_same
from fcos_edge.writing import naming

QAT_TOKEN = "qat"  # in a recipe's name
# Refinements that are of use before training: what the others find out is for weights that then move.
BEFORE_TRAINING = ("cle", "ws")
RATE_SHARE = 1 / 20  # of the learning rate that made the network: it is to settle, not to learn anew
EPOCHS = 2
WARMUP_STEPS = 50  # AdamW's second moments begin at 0


def qat_config(
    path: Path, checkpoint: Checkpoint, recipe: str | None, ranges: Literal["learned", "observed"]
) -> QatConfig:
    """How to train the checkpoint that was read from `path` in int8.

    recipe  None: that of the checkpoint's record, else the default

    Raises UsageError where there is no such recipe.
    """
    found = DEFAULT_RECIPE
    if recipe is not None:
        found = parse_recipe(recipe)
    elif checkpoint.record is not None:
        found = parse_recipe(Record.from_dict(dict(checkpoint.record)).recipe)
    return QatConfig(str(path.resolve()), sha256_of(path), _trained_recipe(found).name, ranges)


def short_schedule(checkpoint: Checkpoint, preset: str | None = None) -> TrainConfig:
    """The training config of a checkpoint, or of a preset, made short and gentle; the network stays.

    Every layer trains: rounding changed them all. Only statistics stand still.

    Raises UsageError where the checkpoint's own cannot be read, and no preset has its name.
    """
    config = find_preset(preset) if preset else _own_config(checkpoint)
    return replace(
        config, network=checkpoint.network_config, input_hw=checkpoint.spec.input_hw,
        sizes_hw=(), small_epochs=0, short_sides=(), nms_iou=checkpoint.spec.nms_iou,
        augment=_light(config.augment), epochs=EPOCHS, iterations=0, freeze_stages=0, frozen_norm=False,
        precision="fp32", compile=False,
        optimizer=replace(
            config.optimizer, learning_rate=config.optimizer.learning_rate * RATE_SHARE, schedule="cosine",
            warmup_steps=WARMUP_STEPS, warmup_factor=0.1, backbone_factor=1.0,
        ),
    )  # fmt: skip


def check_trainable(config: TrainConfig, checkpoint: Checkpoint) -> None:
    """Raise UsageError where the checkpoint's weights do not fit, or pictures would have several sizes."""
    own = checkpoint.network_config.to_dict()
    for name, value in config.network.to_dict().items():
        if value != own[name] and name != "activation":
            raise UsageError(
                f"--set network.{name}: {name} is {value}, the checkpoint's is {own[name]}; leave it as it is"
            )
    for name in ("sizes_hw", "short_sides", "small_epochs"):
        if getattr(config, name):
            raise UsageError(
                f"--set {name}: int8 is trained at one input size; leave it out, or set input_hw"
            )


def make_twin(
    qat: QatConfig,
    config: TrainConfig,
    pictures: Sequence[LabelledPicture],
    out_dir: Path,
    say: Callable[[str], None],
) -> FakeQuantizedFcos:
    """The network that is to be trained, calibrated on some of the training pictures.

    The record is the one in `out_dir`, if a run goes on there; else the checkpoint's own where that has what
    the recipe needs, for this input size; else a new one.

    Raises CheckpointError where the checkpoint is not the one that the run began with.
    """
    checkpoint = load_same(Path(qat.checkpoint), qat.sha256)
    network = Fcos(config.network)
    network.load_state_dict(checkpoint.network.state_dict())
    graph = deploy(network.eval(), config.input_hw)
    recipe = _recipe_before(parse_recipe(qat.recipe))
    record = _begun(out_dir, recipe) or carried(checkpoint, config, graph, recipe)
    if record is None:
        chosen = spread(pictures, CALIBRATION_PICTURES)
        say(f"calibrating on {len(chosen)} pictures by {recipe.name}")
        spec = replace(checkpoint.spec, input_hw=config.input_hw)
        record = calibrate(graph, (read_image_bgr(p.path) for p in chosen), spec, recipe=recipe)
    return FakeQuantizedFcos(network, graph, record, is_learned=qat.ranges == "learned")


def keep_record(twin: Fcos, out_dir: Path) -> None:
    """Write what the run begins with into its folder: calibrating takes longer than going on."""
    assert isinstance(twin, FakeQuantizedFcos)
    path, part = out_dir / RECORD_FILE, out_dir / f".{RECORD_FILE}.part"
    with naming(path, "choose another --out"):
        part.write_text(json.dumps(twin.initial.to_dict()), encoding="utf-8")
        os.replace(part, path)


def finished(trained: Checkpoint, qat: QatConfig) -> Checkpoint:
    """What training the twin left, as a checkpoint of the network itself, with its record."""
    twin = trained.network
    assert isinstance(twin, FakeQuantizedFcos)
    network = Fcos(trained.network_config)
    own = network.state_dict()
    network.load_state_dict({name: value for name, value in twin.state_dict().items() if name in own})
    graph = deploy(network.eval(), trained.spec.input_hw)
    began = load_checkpoint(Path(qat.checkpoint)).spec
    provenance = provenance_of_both(began.provenance, trained.spec.provenance)
    provenance |= {"qat": f"{qat.recipe}, {qat.ranges} ranges", "fcos_edge": __version__}
    spec = replace(began, input_hw=trained.spec.input_hw, provenance=provenance)
    record = settled_record(twin, graph, parse_recipe(qat.recipe))
    return replace(trained, network=network, spec=spec, record=record.to_dict())


@torch.no_grad()
def settled_record(twin: FakeQuantizedFcos, graph: Graph, recipe: Recipe) -> Record:
    """The record of a trained twin; `graph` is of its weights.

    As after calibration, no ReLU6 has an integer that means more than 6, no step is finer than runtimes can
    scale to, and the scales of an addition's inputs lie on its output's grid.
    """
    initial = twin.initial
    folded = equalized(graph, initial.channel_factors)
    learned = {name: scale.cpu().numpy() for name, scale in twin.weight_scales().items()}
    point_scales = twin.point_scales()
    points = dict(initial.points)
    for node in folded.nodes:
        if isinstance(node, Selecting):
            points[node.name] = points[node.inputs[0]]
        elif not isinstance(node, Input) and node.name in point_scales:
            own = _scales_of(node, points, learned, recipe) if isinstance(node, Conv) else None
            scale = max(float(point_scales[node.name]), finest_scale(node, points, own))
            points[node.name] = _point(node, scale, points[node.name].zero_point)
    points = align_add_scales(folded, points)
    scales = {n.name: _scales_of(n, points, learned, recipe) for n in folded.nodes if isinstance(n, Conv)}
    return Record(
        points, scales, initial.float_nodes, initial.picture_sha256, recipe=recipe.name,
        channel_factors=initial.channel_factors,
    )  # fmt: skip


def _point(node: Conv | Add | GroupNorm, scale: float, zero_point: int) -> Point:
    step = np.float32(scale)
    while node.activation == "relu6" and step * np.float32(255 - zero_point) > 6:
        step = np.nextafter(step, np.float32(0))
    return Point(float(step), zero_point)


def _scales_of(
    conv: Conv, points: dict[str, Point], learned: dict[str, FloatArray], recipe: Recipe
) -> FloatArray:
    source_scale = points[conv.inputs[0]].scale
    if conv.name not in learned:
        return weight_scales(conv, source_scale, recipe)
    floors = weight_scale_floors(conv, source_scale)
    if not recipe.is_per_channel:
        floors = np.full_like(floors, floors.max())
    return np.maximum(learned[conv.name], floors).astype(np.float32)


def _trained_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the record that training leaves."""
    kept = [refinement for refinement in recipe.refinements if refinement in BEFORE_TRAINING]
    return replace(recipe, refinements=(*kept, QAT_TOKEN))


def _recipe_before(recipe: Recipe) -> Recipe:
    """The recipe of the record that training begins with."""
    return replace(recipe, refinements=tuple(name for name in recipe.refinements if name != QAT_TOKEN))


def _begun(out_dir: Path, recipe: Recipe) -> Record | None:
    path = out_dir / RECORD_FILE
    if not path.exists():
        return None
    try:
        record = Record.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError, CheckpointError) as error:
        raise CheckpointError(f"{path}: damaged ({type(error).__name__}); choose another --out") from None
    return record if record.recipe == recipe.name else None


def carried(checkpoint: Checkpoint, config: TrainConfig, graph: Graph, recipe: Recipe) -> Record | None:
    """The checkpoint's record by another recipe, where that has the same points; else None.

    Searched weight scales and corrected biases left the points as they were, and are for other weights.
    """
    if checkpoint.record is None:
        return None
    if config.network != checkpoint.network_config or config.input_hw != checkpoint.spec.input_hw:
        return None
    record = Record.from_dict(dict(checkpoint.record))
    own = parse_recipe(record.recipe)
    is_same_points = (recipe.is_symmetric, recipe.estimator) == (own.is_symmetric, own.estimator)
    if recipe.refinements or record.channel_factors or not is_same_points:
        return None
    scales = {
        node.name: weight_scales(node, record.points[node.inputs[0]].scale, recipe)
        for node in graph.nodes
        if isinstance(node, Conv)
    }
    return Record(record.points, scales, record.float_nodes, record.picture_sha256, recipe=recipe.name)


def _own_config(checkpoint: Checkpoint) -> TrainConfig:
    document: dict[str, Any] = {
        key: value for key, value in checkpoint.config.items() if key not in BESIDE_SETTINGS
    }
    try:
        return TrainConfig.from_dict(document)
    except (KeyError, TypeError, ValueError, CheckpointError):
        name = checkpoint.spec.name
        if name not in PRESETS:  # an older release wrote it
            raise UsageError(
                f"the checkpoint of {name!r} does not say how it was trained; give --preset"
            ) from None
        return PRESETS[name]


def _light(augment: AugmentConfig) -> AugmentConfig:
    """Views that stray half as far, without mosaic or pasted objects: ranges are to be learned on what the
    device sees."""
    low, high = augment.scale
    return replace(
        augment, scale=((1 + low) / 2, (1 + high) / 2), contrast=augment.contrast / 2,
        brightness=augment.brightness / 2, saturation=augment.saturation / 2, mosaic=0.0, paste=0.0,
        plain_epochs=0,
    )  # fmt: skip
