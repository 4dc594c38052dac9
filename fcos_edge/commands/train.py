"""`fcos-edge train`: from labelled pictures to a checkpoint that can be exported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fcos_edge.arguments import CALIBRATION_PICTURES, positive_int
from fcos_edge.console import note, print_json, print_table
from fcos_edge.errors import UsageError

if TYPE_CHECKING:
    from fcos_edge.train.checkpoint import Checkpoint
    from fcos_edge.train.dataset import LabelledPicture
    from fcos_edge.train.run import Run

SUMMARY = "train a detector on labelled pictures, from ImageNet weights to a checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="D", type=Path, nargs="+", required=True,
        help="folders of COCO data sets: annotations/instances_train.json and the pictures in train/",
    )  # fmt: skip
    parser.add_argument(
        "--preset", metavar="P", default="lite0-320", help="what to train (default: %(default)s)"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True,
        help="folder for the checkpoint and the run's state; a run that was interrupted goes on there",
    )  # fmt: skip
    parser.add_argument(
        "--classes", metavar="A,B", type=_names,
        help="class names, comma between them (default: the preset's, else all of the first data set)",
    )  # fmt: skip
    parser.add_argument(
        "--hold-out", metavar="N", type=_whole_number, default=200,
        help="pictures that do not train: they measure, and choose the thresholds (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", metavar="N", type=positive_int, help="passes over the data (default: the preset's)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=_whole_number, help="of all chance in training (default: 0)"
    )
    parser.add_argument(
        "--workers", metavar="N", type=_whole_number, default=1,
        help="processes that read pictures (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--weights",
        metavar="PATH",
        type=Path,
        help="the backbone's ImageNet weights (default: the installed package's)",
    )
    parser.add_argument(
        "--eval-every", metavar="N", type=positive_int, default=5,
        help="epochs between two looks at the held-out pictures (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from fcos_edge.train.checkpoint import save_checkpoint
    from fcos_edge.train.run import checkpoint_file, claim_folder, read_pictures, train_checkpoint

    plan = _plan(args)
    training, held_out = read_pictures(plan)
    claim_folder(plan, args.out)
    note(
        f"{plan.name}: {len(training)} pictures to train on, {len(held_out)} held out,"
        f" {len(plan.classes)} classes, {plan.config.epochs} epochs"
    )
    checkpoint = train_checkpoint(
        plan, training, held_out, args.out,
        weights_path=args.weights, eval_every=args.eval_every, workers=args.workers, log=note,
    )  # fmt: skip
    checkpoint = _calibrated(checkpoint, training)
    path = checkpoint_file(plan, args.out)
    save_checkpoint(path, checkpoint)
    _report(path, checkpoint, args.json)
    return 0


def _plan(args: argparse.Namespace) -> Run:
    """The run that the arguments describe."""
    from fcos_edge.train.formats.coco import class_names
    from fcos_edge.train.presets import PRESET_CLASSES, PRESETS
    from fcos_edge.train.run import Run

    if args.preset not in PRESETS:
        raise UsageError(f"preset {args.preset!r} is not known; choose from {', '.join(PRESETS)}")
    config = PRESETS[args.preset]
    classes: Sequence[str] = (
        args.classes or PRESET_CLASSES.get(args.preset) or class_names(args.data[0], "train")
    )
    epochs = args.epochs or config.epochs
    config = replace(
        config,
        network=replace(config.network, num_classes=len(classes)),
        epochs=epochs,
        small_epochs=config.small_epochs * epochs // config.epochs,
        seed=config.seed if args.seed is None else args.seed,
    )
    return Run(args.preset, tuple(classes), tuple(args.data), config, args.hold_out)


def _calibrated(checkpoint: Checkpoint, pictures: Sequence[LabelledPicture]) -> Checkpoint:
    """The checkpoint with a calibration record, so that exporting it needs no pictures."""
    from fcos_edge.image import read_image_bgr
    from fcos_edge.quantize.calibrate import calibrate
    from fcos_edge.quantize.deploy import deploy
    from fcos_edge.sources import spread

    # The data sets come one after the other.
    chosen = spread(pictures, CALIBRATION_PICTURES)
    note(f"calibrating on {len(chosen)} pictures")
    graph = deploy(checkpoint.network, checkpoint.spec.input_hw)
    record = calibrate(graph, (read_image_bgr(picture.path) for picture in chosen), checkpoint.spec)
    return replace(checkpoint, record=record.to_dict())


def _report(path: Path, checkpoint: Checkpoint, is_json: bool) -> None:
    thresholds = dict(zip(checkpoint.spec.classes, checkpoint.operating_thresholds, strict=True))
    if is_json:
        print_json({
            "checkpoint": str(path), "metrics": checkpoint.metrics, "operating_thresholds": thresholds,
            "is_calibrated": checkpoint.record is not None,
        })  # fmt: skip
        return
    print(path)
    if held_out := checkpoint.metrics.get("held_out"):
        rows = [
            (name, row["boxes"], row["AP"], row["AP50"], thresholds[name])
            for name, row in held_out["classes"].items()
        ]
        print_table(("held out", "boxes", "AP", "AP50", "threshold"), rows)


def _names(text: str) -> tuple[str, ...]:
    """`a,b,c`, each once."""
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of different names, with a comma between them")
    return names


def _whole_number(text: str) -> int:
    """A whole number from 0."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)
