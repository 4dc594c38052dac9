"""`fcos-edge eval`: accuracy of a checkpoint, a bundle or a model file on labelled pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fcos_edge.arguments import add_runtime, add_threads
from fcos_edge.console import note, print_json, print_table
from fcos_edge.errors import UsageError

if TYPE_CHECKING:
    from fcos_edge.detector import Detector
    from fcos_edge.train.evaluate import Evaluation

SUMMARY = "measure accuracy on labelled pictures: the COCO figures, and AP per class"
EXTRA = "train"
CHECKPOINT_SUFFIX = ".safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=Path,
        help="checkpoint, bundle, or one .onnx, .xml or .tflite file",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="D", type=Path, required=True,
        help="folder of a COCO data set: annotations/instances_<split>.json and the pictures in <split>/",
    )  # fmt: skip
    parser.add_argument("--split", metavar="S", default="val", help="which pictures (default: %(default)s)")
    add_runtime(parser)
    parser.add_argument(
        "--precision", metavar="P", help="int8, fp32, fp16, or fast (default: int8 where there is one)"
    )
    parser.add_argument(
        "--device", metavar="D", help="in the runtime's words: GPU, CUDA, ... (default: the CPU)"
    )
    add_threads(parser)


def run(args: argparse.Namespace) -> int:
    from fcos_edge.train.evaluate import evaluate

    with _open(args) as detector:
        evaluation = evaluate(detector, args.data, args.split)
    if args.json:
        print_json({"data": args.data.resolve().name, "split": args.split, **evaluation.to_dict()})
    else:
        _print(evaluation)
    return 0


def _open(args: argparse.Namespace) -> Detector:
    """The model as a detector; says on stderr what it is."""
    from fcos_edge.detector import Detector

    path: Path = args.model
    if path.suffix != CHECKPOINT_SUFFIX:
        from fcos_edge.loading import open_artifact

        loaded = open_artifact(path, args.runtime, args.precision, args.device, args.threads)
        note(f"model: {loaded.description}")
        return Detector(loaded.runtime, loaded.spec, loaded.info.operating_thresholds)
    for name in ("runtime", "precision", "device"):
        if getattr(args, name) is not None:
            raise UsageError(
                f"--{name}: {path.name} is a checkpoint, it runs in PyTorch; give a bundle, or leave it out"
            )
    from fcos_edge.threads import default_threads
    from fcos_edge.train.torch_runtime import open_checkpoint

    threads = args.threads or default_threads()
    note(f"model: {path.name} (fp32) in PyTorch, threads: {threads}")
    return open_checkpoint(path, threads)


def _print(evaluation: Evaluation) -> None:
    from fcos_edge.train.evaluate import FIGURES

    # COCO's -1 says that there is nothing to measure.
    shown = {name: None if value < 0 else value for name, value in evaluation.figures.items()}
    print(f"{evaluation.pictures} pictures")
    print_table(FIGURES, [[shown[name] for name in FIGURES]])
    print()
    rows = [
        (row.name, row.boxes, None if row.ap < 0 else row.ap, None if row.ap50 < 0 else row.ap50)
        for row in evaluation.classes
    ]
    print_table(("class", "boxes", "AP", "AP50"), rows)
