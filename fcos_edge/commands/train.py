"""`fcos-edge train`: from labelled pictures to a checkpoint that can be exported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fcos_edge import embedded
from fcos_edge.arguments import CALIBRATION_PICTURES, different_names, positive_int
from fcos_edge.console import note, print_json, print_table
from fcos_edge.errors import CheckpointError, UsageError
from fcos_edge.report.options import add_page_options, check_page_options, write_pages

if TYPE_CHECKING:
    from fcos_edge.train.checkpoint import Checkpoint
    from fcos_edge.train.config import TrainConfig
    from fcos_edge.train.data.dataset import LabelledPicture
    from fcos_edge.train.run import Run

SUMMARY = "train a detector on labelled pictures, from ImageNet weights to a checkpoint"
DEFAULT_PRESET = "lite0-320"
GIGABYTE = 1 << 30
# What describes the run; with --resume all of it comes from the run's folder.
_OF_THE_RUN = (
    "data", "preset", "classes", "hold_out", "epochs", "batch_size", "accumulate", "precision", "compile",
    "seed", "weights", "start", "teacher", "set", "exclude", "qat", "recipe", "ranges", "licence",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="D", type=Path, nargs="+",
        help="data sets: COCO, YOLO (data.yaml) or Pascal VOC, told apart by what is there; `train` is used",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True,
        help="folder for the checkpoint and the run's state; a run that was interrupted goes on there",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out; no other argument is needed"
    )
    parser.add_argument(
        "--qat", metavar="CHECKPOINT", type=Path,
        help="quantization-aware training: go on with this checkpoint for a short while, as int8 computes it",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", metavar="R",
        help="with --qat: of int8, as w8t_a8t_mse (default: the checkpoint's)",
    )  # fmt: skip
    parser.add_argument(
        "--ranges", choices=("learned", "observed"),
        help="with --qat: scales that train, or those of the calibration pictures (default: learned)",
    )  # fmt: skip
    parser.add_argument("--preset", metavar="P", help=f"what to train (default: {DEFAULT_PRESET})")
    parser.add_argument(
        "--classes", metavar="A,B", type=different_names,
        help="class names, comma between them (default: the preset's, else all of the first data set)",
    )  # fmt: skip
    parser.add_argument(
        "--licence", choices=("commercial",),
        help="only pictures whose licence record allows commercial use; COCO files have such records",
    )  # fmt: skip
    parser.add_argument(
        "--hold-out", metavar="N", type=_whole_number,
        help="pictures that do not train: they measure, and choose the thresholds (default: a tenth, at most"
        " 200)",
    )  # fmt: skip
    for name, what in (
        ("--epochs", "passes over the data"),
        ("--batch-size", "pictures of a step, of all processes together; the learning rate follows"),
        ("--accumulate", "passes that a step is made of, where a batch is too big for the memory"),
    ):
        parser.add_argument(name, metavar="N", type=positive_int, help=f"{what} (default: the preset's)")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), help="of training (default: the preset's)"
    )
    parser.add_argument("--compile", action="store_true", default=None, help="compile the network first")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append",
        help="any other setting of train/config.py, as assign.method=atss or network.fpn_channels=128",
    )  # fmt: skip
    parser.add_argument(
        "--seed", metavar="N", type=_whole_number, help="of all chance in training (default: 0)"
    )
    parser.add_argument(
        "--weights", metavar="PATH",
        help="the backbone's ImageNet weights, or none (default: the installed package's)",
    )  # fmt: skip
    parser.add_argument(
        "--start", metavar="CHECKPOINT", type=Path, nargs="?", const=embedded.CHECKPOINT,
        help="begin with the weights of a whole detector of the same network, in place of ImageNet's; without"
        " a path: the embedded detector's",
    )  # fmt: skip
    parser.add_argument(
        "--teacher", metavar="CHECKPOINT", type=Path,
        help="a detector of the same classes, of any backbone, to learn from beside the labels",
    )  # fmt: skip
    parser.add_argument(
        "--eval-every", metavar="N", type=positive_int, default=5,
        help="epochs between two looks at the held-out pictures (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", metavar="N", type=_whole_number, default=1,
        help="processes that read pictures (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--threads", metavar="N", type=positive_int,
        help="threads that compute, where there is no GPU (default: all this process may use)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", metavar="GB", type=_gigabytes, default=0,
        help="memory for decoded pictures (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--save-every", metavar="N", type=positive_int, default=500,
        help="steps between two states to go on from, besides one an epoch (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--no-tensorboard", dest="board", action="store_false", help="write nothing for TensorBoard"
    )
    add_page_options(parser, has_markdown=False)
    parser.add_argument(
        "--exclude",
        metavar="KIND,KIND",
        type=different_names,
        help="what the data check shall leave out, not refuse: missing, unreadable, in_both, ...",
    )


def run(args: argparse.Namespace) -> int:
    import torch

    from fcos_edge.threads import checked_threads, default_threads
    from fcos_edge.train.checkpoint import save_checkpoint
    from fcos_edge.train.memory import keep_freed_memory
    from fcos_edge.train.pipeline import (
        MachineOptions,
        check_first_step,
        make_network,
        read_data,
        train_checkpoint,
    )
    from fcos_edge.train.processes import joined
    from fcos_edge.train.run import checkpoint_file, claim_folder

    # The run's own folder is made later, or refused.
    if args.html is not None and (args.out.exists() or args.html.parent.resolve() != args.out.resolve()):
        check_page_options(args)
    keep_freed_memory()
    torch.set_num_threads(checked_threads(args.threads or default_threads()))
    machine = MachineOptions(args.workers, args.cache, args.save_every, args.eval_every, args.board)
    with joined() as processes:
        say = note if processes.is_first else _say_nothing
        plan = _plan(args)
        data = read_data(plan, processes, say)
        check_first_step(plan, data, processes)
        if plan.qat is None:
            network = make_network(plan, processes, say)
        else:
            from fcos_edge.quantize.qat import finished, keep_record, make_twin

            network = make_twin(plan.qat, plan.config, data.training, args.out, say).to(processes.device)
        if processes.is_first:
            claim_folder(plan, args.out, args.command_line)
            if plan.qat is not None:
                keep_record(network, args.out)
        processes.wait()
        say(
            f"{plan.name}: {len(data.training)} pictures to train on, {len(data.held_out)} held out,"
            f" {len(plan.classes)} classes"
        )
        checkpoint = train_checkpoint(plan, network, data, args.out, processes, machine)
        if processes.is_first:
            if plan.qat is None:
                checkpoint = _calibrated(checkpoint, data.training)
            else:
                checkpoint = finished(checkpoint, plan.qat)
            path = checkpoint_file(plan, args.out)
            save_checkpoint(path, checkpoint)
            _report(path, checkpoint, args.json)
            if args.html is not None:
                _write_page(args)
        processes.wait()
    return 0


def _plan(args: argparse.Namespace) -> Run:
    """The run that the arguments describe, or the one in the folder that is to go on."""
    from fcos_edge.train.config import DistillConfig
    from fcos_edge.train.data.formats import class_names
    from fcos_edge.train.distill import make_teacher
    from fcos_edge.train.presets import PRESET_CLASSES
    from fcos_edge.train.run import Run, read_run
    from fcos_edge.train.start import check_start, checkpoint_file_of

    if args.resume:
        if given := [name for name in _OF_THE_RUN if getattr(args, name) is not None]:
            option = given[0].replace("_", "-")
            raise UsageError(f"--resume takes the run's own arguments; leave out --{option}")
        return read_run(args.out)
    if not args.data:
        raise UsageError("no data to train on; give --data, or --resume with the folder of a run")
    for name in ("recipe", "ranges"):
        if args.qat is None and getattr(args, name) is not None:
            raise UsageError(
                f"--{name} is for quantization-aware training; add --qat CHECKPOINT, or leave it out"
            )
    if args.start is not None:
        for name in ("qat", "weights"):
            if getattr(args, name) is not None:
                raise UsageError(f"--start is where training begins; leave out --{name}, or --start")
    if args.qat is not None and args.teacher is not None:
        raise UsageError("--qat learns from labels alone; leave out --teacher")
    if args.qat is not None:
        return _qat_plan(args)
    preset = args.preset or DEFAULT_PRESET
    config = _config(preset, args)
    classes: Sequence[str] = args.classes or PRESET_CLASSES.get(preset) or class_names(args.data[0], "train")
    config = replace(config, network=replace(config.network, num_classes=len(classes)))
    start = None
    if args.start is not None:
        start = checkpoint_file_of(args.start)
        check_start(start, config.network)
    if args.teacher is None and config.distill != DistillConfig():
        raise UsageError("--set distill is for a teacher; add --teacher CHECKPOINT, or leave it out")
    plan = Run(
        preset, tuple(classes), tuple(args.data), config, args.weights, args.hold_out,
        args.exclude or (), start=start, licence=args.licence,
        teacher=None if args.teacher is None else checkpoint_file_of(args.teacher),
    )  # fmt: skip
    if plan.teacher is not None:
        make_teacher(plan.teacher, plan.spec, config.distill)  # it is made again when training begins
    return plan


def _qat_plan(args: argparse.Namespace) -> Run:
    """Quantization-aware training: network, classes and name are the checkpoint's."""
    from fcos_edge.quantize.qat import check_trainable, qat_config, short_schedule
    from fcos_edge.train.checkpoint import load_checkpoint
    from fcos_edge.train.run import Run

    for name in ("weights", "classes"):
        if getattr(args, name) is not None:
            raise UsageError(f"--qat takes the {name} of its checkpoint; leave out --{name}")
    checkpoint = load_checkpoint(args.qat)
    qat = qat_config(args.qat, checkpoint, args.recipe, args.ranges or "learned")
    config = _changed(short_schedule(checkpoint, args.preset), args)
    check_trainable(config, checkpoint)
    return Run(
        checkpoint.spec.name, checkpoint.spec.classes, tuple(args.data), config, None, args.hold_out,
        args.exclude or (), qat, licence=args.licence,
    )  # fmt: skip


def _config(preset: str, args: argparse.Namespace) -> TrainConfig:
    """The preset's config with what the arguments change."""
    from fcos_edge.train.presets import find_preset

    return _changed(find_preset(preset), args)


def _changed(config: TrainConfig, args: argparse.Namespace) -> TrainConfig:
    from fcos_edge.train.settings import with_setting

    if args.epochs:
        small_epochs = config.small_epochs * args.epochs // config.epochs
        config = replace(config, epochs=args.epochs, small_epochs=small_epochs, iterations=0)
    for name in ("batch_size", "accumulate", "precision", "compile", "seed"):
        if (value := getattr(args, name)) is not None:
            config = replace(config, **{name: value})
    for setting in args.set or ():
        config = with_setting(config, setting)
    return config


def _calibrated(checkpoint: Checkpoint, pictures: Sequence[LabelledPicture]) -> Checkpoint:
    """The checkpoint with a calibration record, so that exporting it needs no pictures.

    Unchanged where the network has what no exported file can have, as GroupNorm.
    """
    from fcos_edge.quantize.calibration_data import PictureFiles
    from fcos_edge.quantize.make_record import calibrated_checkpoint
    from fcos_edge.quantize.recipe import DEFAULT_RECIPE
    from fcos_edge.sources import spread

    # The data sets come one after the other.
    chosen = PictureFiles([picture.path for picture in spread(pictures, CALIBRATION_PICTURES)])
    try:
        return calibrated_checkpoint(checkpoint, chosen, DEFAULT_RECIPE, note)
    except CheckpointError as error:
        note(f"not calibrated: {error}")
        return checkpoint


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


def _write_page(args: argparse.Namespace) -> None:
    """The curves as a page. Whatever stops it: the run is done, and its checkpoint is whole."""
    try:
        from fcos_edge.report.training import read_training, training_page

        write_pages(args, lambda: training_page(read_training(args.out)))
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        note(f"no page of the run, {what}; fcos-edge report {args.out} --html FILE tries again")


def _say_nothing(message: str) -> None:
    """What the other processes say; the first one says it for all."""


def _gigabytes(text: str) -> int:
    """Bytes of a number of gigabytes."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:  # NaN is not either
        raise argparse.ArgumentTypeError(f"{text!r} is no number of gigabytes")
    return int(value * GIGABYTE)


def _whole_number(text: str) -> int:
    """A whole number from 0."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)
