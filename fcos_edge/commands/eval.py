"""`fcos-edge eval`: accuracy of a checkpoint, a bundle or a model file on labelled pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fcos_edge.arguments import add_model_options
from fcos_edge.console import print_json, print_table

if TYPE_CHECKING:
    from fcos_edge.train.evaluate import Evaluation

SUMMARY = "measure accuracy on labelled pictures: the COCO figures, and AP per class"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", type=Path,
        help="bundle, one .onnx, .xml or .tflite file, or a checkpoint (default: ./street8-lite0-320,"
        " else the embedded detector in PyTorch)",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="D", type=Path, required=True,
        help="folder of a COCO data set: annotations/instances_<split>.json and the pictures in <split>/",
    )  # fmt: skip
    parser.add_argument("--split", metavar="S", default="val", help="which pictures (default: %(default)s)")
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    from fcos_edge.opening import open_model
    from fcos_edge.train.evaluate import evaluate

    with open_model(args.model, args) as detector:
        evaluation = evaluate(detector, args.data, args.split)
    if args.json:
        print_json({"data": args.data.resolve().name, "split": args.split, **evaluation.to_dict()})
    else:
        _print(evaluation)
    return 0


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
