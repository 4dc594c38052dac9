"""Decide on int8: a record from pictures, or the checkpoint's, and what goes with it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fcos_edge.console import track
from fcos_edge.detections import Detections
from fcos_edge.detector import Detector
from fcos_edge.errors import UsageError
from fcos_edge.image import read_image_bgr
from fcos_edge.loading import load
from fcos_edge.quantize.accuracy_drop import AccuracyDrop
from fcos_edge.quantize.calibrate import calibrate_inputs, letterboxed
from fcos_edge.quantize.calibration_data import require_apart
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.formats import FormatWriter, format_names, load_writer
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.mixed_precision import choose_float_layers, corrected_again, with_float_layers
from fcos_edge.quantize.recipe import DEFAULT_RECIPE, Recipe, parse_recipe
from fcos_edge.quantize.record import Record, weight_scales
from fcos_edge.quantize.sensitivity import affordable_pictures, measure_sensitivity
from fcos_edge.quantize.simulated_runtime import SimulatedRuntime
from fcos_edge.quantize.spread import ENOUGH_PICTURES, measure_spread
from fcos_edge.quantize.thresholds import thresholds_of_count, thresholds_of_precision
from fcos_edge.runtime import UInt8Array
from fcos_edge.sensitivity_table import SensitivityTable
from fcos_edge.sources import spread
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint
from fcos_edge.train.evaluation.coco_matches import match_split
from fcos_edge.train.evaluation.evaluate import LabelledSplit
from fcos_edge.train.torch_runtime import TorchRuntime

SIMULATED_PICTURES = 128  # the simulator takes 0.15 s for each

Say = Callable[[str], None]


@dataclass(frozen=True)
class Int8Options:
    """How an export decides on int8.

    recipe          None: the checkpoint's record as it is, or with pictures the default recipe
    max_drop        points of AP that may be lost; None: every layer becomes int8
    metric          whose AP: a class's, or "" for the mean
    allows_overlap  pictures that were calibrated on may be measured on
    """

    recipe: Recipe | None = None
    max_drop: float | None = None
    metric: str = ""
    allows_overlap: bool = False


def decide_int8(
    checkpoint: Checkpoint,
    graph: Graph,
    options: Int8Options,
    pictures: Sequence[UInt8Array] | None,
    labelled: LabelledSplit | None,
    say: Say,
) -> tuple[Record, SensitivityTable | None]:
    """The record, and each layer's harm where that is known.

    pictures  to calibrate on, (h, w, 3) uint8 BGR; None takes the checkpoint's record, and so do weights that
              were trained for it
    labelled  to measure on

    Raises UsageError where what is asked for needs pictures or labels, DataError where a picture to measure
    on was calibrated on.
    """
    if options.max_drop is not None and (pictures is None or labelled is None):
        raise UsageError(
            "--max-drop: needs a data set with labels of the model's classes, in train and val;"
            " name one with --data"
        )
    if pictures is None:
        carried = checkpoint.sensitivity if options.recipe is None else None
        table = None if carried is None else SensitivityTable.from_dict(carried)
        return carried_record(checkpoint, graph, options.recipe), table
    inputs, digests = letterboxed(pictures, checkpoint.spec)
    if labelled is not None and not options.allows_overlap:
        require_apart(labelled, digests)
    record = trained_record(checkpoint, options.recipe)
    if record is None:
        record = calibrated_record(graph, inputs, digests, options.recipe or DEFAULT_RECIPE, say)
    else:
        say(f"int8 by {record.recipe}, as the checkpoint was trained: its scales stay")
    table = _measured_harm(graph, record, inputs, checkpoint.spec, options.max_drop is not None, say)
    if options.max_drop is not None and labelled is not None and table is not None:
        drop = AccuracyDrop(checkpoint, graph, labelled, options.metric)
        chosen = choose_float_layers(graph, record, table, drop, options.max_drop)
        record, lost = with_float_layers(record, chosen.names), chosen.drop
        if chosen.names:
            # Corrections were made for the all-integer network.
            corrected = corrected_again(graph, record, inputs)
            if (corrected_drop := drop(corrected)) <= options.max_drop:
                record, lost = corrected, corrected_drop
        low, high = drop.interval(record) or (float("nan"), float("nan"))
        say(
            f"{len(chosen.names)} layers stay in float: {drop.reference:.2f} points in float32,"
            f" {lost:.2f} lost (95 % interval {low:.1f} to {high:.1f})"
        )
        rows = (replace(row, is_float=row.layer in record.float_nodes) for row in table.rows)
        table = replace(table, rows=tuple(rows))
    return record, table


def calibrated_record(
    graph: Graph, inputs: UInt8Array, digests: tuple[str, ...], recipe: Recipe, say: Say
) -> Record:
    """A record made from letterboxed pictures, (N, H, W, 3) uint8 RGB; says so where they are few."""
    say(f"calibrating on {len(inputs)} pictures by {recipe.name}")
    record = calibrate_inputs(graph, inputs, digests, recipe)
    if len(inputs) < ENOUGH_PICTURES:
        spread = measure_spread(graph, inputs, recipe)
        found = f"; {spread}" if spread else ""
        say(f"warning: {len(inputs)} pictures are few, {ENOUGH_PICTURES} or more are better{found}")
    return record


def _measured_harm(
    graph: Graph, record: Record, inputs: UInt8Array, spec: ModelSpec, is_needed: bool, say: Say
) -> SensitivityTable | None:
    """Each layer's harm; None where the network is too large to measure it for nothing but the table."""
    pictures = max(affordable_pictures(graph), int(is_needed))
    if not pictures:
        say("each layer's harm is not measured: it would take long in a network of this size")
        return None
    say("measuring each layer's harm")
    return measure_sensitivity(graph, record, inputs, spec, pictures)


def trained_record(checkpoint: Checkpoint, recipe: Recipe | None) -> Record | None:
    """The checkpoint's record where its weights were trained for it and no other is asked for, else None."""
    if checkpoint.record is None:
        return None
    record = Record.from_dict(dict(checkpoint.record))
    is_meant = recipe is None or recipe.name == record.recipe
    return record if is_meant and "qat" in parse_recipe(record.recipe).refinements else None


def carried_record(checkpoint: Checkpoint, graph: Graph, recipe: Recipe | None) -> Record:
    """The checkpoint's own record; with another recipe where that can be had without pictures.

    Other weights need none, as long as nothing is learned or corrected.

    Raises UsageError where the checkpoint has no record, or the recipe needs pictures.
    """
    if checkpoint.record is None:
        raise UsageError("the checkpoint holds no calibration record; give pictures with --data")
    record = Record.from_dict(dict(checkpoint.record))
    if recipe is None or recipe.name == record.recipe:
        return record
    own = parse_recipe(record.recipe)
    is_same_activations = (recipe.is_symmetric, recipe.estimator) == (own.is_symmetric, own.estimator)
    if recipe.refinements or not is_same_activations or record.channel_factors:
        raise UsageError(
            f"recipe {recipe.name} needs pictures, the checkpoint was calibrated by {record.recipe};"
            " give some with --data"
        )
    scales = {
        node.name: weight_scales(node, record.points[node.inputs[0]].scale, recipe)
        for node in graph.nodes
        if isinstance(node, Conv)
    }
    return Record(record.points, scales, (), record.picture_sha256, recipe=recipe.name)


def calibrated_checkpoint(
    checkpoint: Checkpoint, pictures: Sequence[UInt8Array], recipe: Recipe, say: Say
) -> Checkpoint:
    """The checkpoint with a record, so that exporting it needs no pictures.

    Thresholds are those of the files in their runtimes, or where these are not installed (training needs
    none) the integer simulator's.

    pictures  (h, w, 3) uint8 BGR
    """
    spec = checkpoint.spec
    graph = deploy(checkpoint.network, spec.input_hw)
    inputs, digests = letterboxed(pictures, spec)
    record = calibrated_record(graph, inputs, digests, recipe, say)
    table = _measured_harm(graph, record, inputs, spec, False, say)
    say("choosing thresholds for int8")
    try:
        writers = [load_writer(name) for name in format_names()]
    except UsageError:
        record = _simulated_thresholds(record, checkpoint, graph, pictures)
    else:
        with tempfile.TemporaryDirectory() as folder:
            record = with_thresholds(record, checkpoint, graph, writers, pictures, None, Path(folder))
    harm = None if table is None else table.to_dict()
    return replace(checkpoint, record=record.to_dict(), sensitivity=harm)


def _simulated_thresholds(
    record: Record, checkpoint: Checkpoint, graph: Graph, pictures: Sequence[UInt8Array]
) -> Record:
    """Thresholds of the integer simulator, for all formats, on some of the pictures."""
    spec, thresholds = checkpoint.spec, checkpoint.operating_thresholds
    images = spread(pictures, SIMULATED_PICTURES)
    runtimes = (TorchRuntime(checkpoint.network, spec), SimulatedRuntime(graph, record, spec))
    reference, found = (
        [detector.candidates(image) for image in track(images, what, len(images))]
        for detector, what in zip(
            (Detector(runtime, spec, thresholds) for runtime in runtimes), ("float32", "int8"), strict=True
        )
    )
    chosen = thresholds_of_count(reference, found, thresholds, spec.candidate_threshold)
    return replace(record, operating_thresholds=dict.fromkeys(format_names(), chosen))


def with_thresholds(
    record: Record,
    checkpoint: Checkpoint,
    graph: Graph,
    writers: Sequence[FormatWriter],
    pictures: Sequence[UInt8Array],
    labelled: LabelledSplit | None,
    folder: Path,
) -> Record:
    """The record with operating thresholds for the int8 file of every format, from running that file.

    pictures  without labels: as many detections as the float network finds
    labelled  with labels: as precise as the float network
    folder    for files that are gone afterwards
    """
    spec, thresholds = checkpoint.spec, checkpoint.operating_thresholds
    images: Iterable[UInt8Array] = pictures
    if labelled is not None:
        images = [read_image_bgr(picture.path) for picture in labelled.pictures]
    least = spec.candidate_threshold

    def candidates(detector: Detector) -> list[Detections]:
        with detector:
            return [detector.candidates(image) for image in images]

    reference = candidates(Detector(TorchRuntime(checkpoint.network, spec), spec, thresholds))
    chosen = {}
    for writer in writers:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            files = writer.write(Path(temporary), graph, record, spec, "int8", thresholds)
            found = candidates(load(files[0]))
        if labelled is None:
            chosen[writer.FORMAT] = thresholds_of_count(reference, found, thresholds, least)
        else:
            ours, theirs = match_split(labelled, reference), match_split(labelled, found)
            chosen[writer.FORMAT] = thresholds_of_precision(ours, theirs, thresholds, least)
    return replace(record, operating_thresholds=chosen)
