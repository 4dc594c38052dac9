"""`fcos-edge export`: a checkpoint becomes a verified bundle. Needs torch."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fcos_edge.arguments import CALIBRATION_PICTURES, different_names, not_negative_float, positive_int
from fcos_edge.artifact import PRECISIONS
from fcos_edge.console import note, print_json, print_table
from fcos_edge.errors import UsageError

if TYPE_CHECKING:
    from fcos_edge.quantize.calibration_data import CalibrationData
    from fcos_edge.quantize.recipe import Recipe
    from fcos_edge.train.checkpoint import Checkpoint
    from fcos_edge.verify import VerifyReport

SUMMARY = "write a checkpoint as ONNX, OpenVINO and TFLite, verified against PyTorch"


# What each of these options sets in a recipe.
_SHORTHANDS = {
    "is_per_channel": "--per-tensor", "weight_bits": "--weights-7bit", "is_symmetric": "--symmetric",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", nargs="?", type=Path,
        help="a .safetensors file (default: the embedded detector)",
    )  # fmt: skip
    parser.add_argument("--int8", action="store_true", help="write int8 too")
    parser.add_argument(
        "--formats", metavar="F,F", help="some of onnx,openvino,tflite (default: all of them)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="D",
        help=f"what to calibrate int8 on, up to {CALIBRATION_PICTURES} pictures: a folder, no labels needed,"
        " or a data set (COCO, YOLO, VOC), whose `train` pictures are calibrated on and whose `val` ones are"
        " measured on (default: the ranges that the checkpoint carries)",
    )  # fmt: skip
    parser.add_argument(
        "--precisions", metavar="P,P", type=different_names,
        help=f"some of {','.join(PRECISIONS)} (default: fp32, fp16 where a format has it, int8 with --int8)",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=_batch, default=1, metavar="N",
        help="pictures in a batch, or dynamic for as many as come (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--tflite-io", choices=("int8", "uint8"), default="int8",
        help="integers of an int8 TFLite file's picture and outputs (default: %(default)s)",
    )  # fmt: skip
    int8 = parser.add_argument_group("how int8 is decided")
    int8.add_argument(
        "--recipe", metavar="R", help="by name, as w8c_a8t_mse_bc (docs/int8.md; default: the checkpoint's)"
    )
    int8.add_argument(
        "--per-tensor",
        action="store_true",
        help="one scale for a layer's weights, for small accelerators",
    )
    int8.add_argument(
        "--weights-7bit", action="store_true", help="weights of 7 bits, for x86 without VNNI instructions"
    )
    int8.add_argument(
        "--symmetric", action="store_true", help="zero points of 0, for accelerators that need them"
    )
    int8.add_argument(
        "--max-drop", type=not_negative_float, metavar="X",
        help="keep the fewest layers in float with which at most X points (of 100) of mean AP get lost",
    )  # fmt: skip
    int8.add_argument("--metric", metavar="CLASS", help="a class whose AP --max-drop is about, as person")
    int8.add_argument(
        "--allow-overlap", action="store_true", help="measure on pictures that were calibrated on, too"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the bundle (default: the model's name)")
    parser.epilog = (
        "The bundle appears when every artifact has passed its checks, and not before; one that is there"
        " already is replaced then."
    )


def run(args: argparse.Namespace) -> int:
    # Cheap mistakes first: torch takes seconds to load.
    formats = _formats(args.formats)
    precisions = _precisions(args)
    _refuse_int8_arguments(args)

    from fcos_edge import embedded
    from fcos_edge.bundle import sha256_of
    from fcos_edge.quantize.export import ExportOptions, export
    from fcos_edge.quantize.formats import WriteOptions
    from fcos_edge.quantize.make_record import Int8Options
    from fcos_edge.quantize.recipe import parse_recipe
    from fcos_edge.train.checkpoint import load_checkpoint

    if args.recipe is not None:
        parse_recipe(args.recipe)  # a wrong name is a cheap mistake
    path: Path = args.checkpoint or embedded.CHECKPOINT
    checkpoint = load_checkpoint(path)
    provenance = {**checkpoint.spec.provenance, "checkpoint_sha256": sha256_of(path)}
    checkpoint = replace(checkpoint, spec=replace(checkpoint.spec, provenance=provenance))
    write = WriteOptions(args.tflite_io, None if args.batch == "dynamic" else args.batch)
    int8 = None
    if args.int8:
        int8 = Int8Options(_recipe(args, checkpoint), args.max_drop, args.metric or "", args.allow_overlap)
    data = None if args.data is None else _data(args.data, checkpoint.spec.classes)
    out_dir: Path = args.out or Path(checkpoint.spec.name)
    report = export(
        checkpoint,
        out_dir,
        ExportOptions(formats, int8, precisions, write),
        pictures=data.pictures if data else None,
        labelled=data.labelled if data else None,
        say=note,
    )
    if args.json:
        print_json({"bundle": str(out_dir), **report.to_dict()})
    else:
        _print(report, out_dir)
    return 0


def _formats(text: str | None) -> tuple[str, ...]:
    from fcos_edge.quantize.formats import format_names

    known = format_names()
    if text is None:
        return known
    names = tuple(name.strip() for name in text.split(","))
    for index, name in enumerate(names):
        if name not in known:
            raise UsageError(f"--formats: {name!r} is unknown; name some of {','.join(known)}")
        if name in names[:index]:
            raise UsageError(f"--formats: {name} is named twice; name it once")
    return names


def _precisions(args: argparse.Namespace) -> tuple[str, ...] | None:
    """Those asked for, or None. Naming int8 is asking for --int8."""
    if args.precisions is None:
        return None
    names: tuple[str, ...] = args.precisions
    for name in names:
        if name not in PRECISIONS:
            raise UsageError(f"--precisions: {name!r} is unknown; name some of {','.join(PRECISIONS)}")
    if args.int8 and "int8" not in names:
        raise UsageError(f"--precisions {','.join(names)}: leaves out the int8 that --int8 asks for; add it")
    args.int8 = "int8" in names
    return names


def _batch(text: str) -> int | Literal["dynamic"]:
    return "dynamic" if text == "dynamic" else positive_int(text)


def _refuse_int8_arguments(args: argparse.Namespace) -> None:
    """Raise UsageError where int8 is not asked for, but something about it."""
    names = (
        "data",
        "recipe",
        "per_tensor",
        "weights_7bit",
        "symmetric",
        "max_drop",
        "metric",
        "allow_overlap",
    )
    given = [name for name in names if getattr(args, name) is not None and getattr(args, name) is not False]
    if given and not args.int8:
        option = given[0].replace("_", "-")
        raise UsageError(f"--{option}: is for int8 only; add --int8, or leave it out")
    if args.max_drop is not None and args.data is None:
        raise UsageError("--max-drop: needs pictures with labels to measure on; name a data set with --data")
    if args.metric is not None and args.max_drop is None:
        raise UsageError("--metric: says what --max-drop is about; add that, or leave it out")


def _recipe(args: argparse.Namespace, checkpoint: Checkpoint) -> Recipe | None:
    """The recipe asked for, or None."""
    from fcos_edge.quantize.recipe import DEFAULT_RECIPE, PER_TENSOR_RECIPE, parse_recipe

    changes: dict[str, Any] = {}
    if args.per_tensor:
        changes["is_per_channel"] = False
    if args.weights_7bit:
        changes["weight_bits"] = 7
    if args.symmetric:
        changes["is_symmetric"] = True
    if args.recipe is not None:
        recipe = parse_recipe(args.recipe)
        if differing := [name for name, value in changes.items() if getattr(recipe, name) != value]:
            option = _SHORTHANDS[differing[0]]
            raise UsageError(f"--recipe {args.recipe}: contradicts {option}; leave one of them out")
        return recipe
    if not changes:
        return None
    if args.data is not None or checkpoint.record is None:
        return replace(PER_TENSOR_RECIPE if args.per_tensor else DEFAULT_RECIPE, **changes)
    # Other weights can be had without pictures; what learns from pictures cannot.
    own = parse_recipe(str(checkpoint.record.get("recipe", DEFAULT_RECIPE.name)))
    recipe = replace(own, refinements=(), **changes)
    note(f"recipe {recipe.name}; pictures (--data) would refine it")
    return recipe


def _data(folder: Path, classes: tuple[str, ...]) -> CalibrationData:
    from fcos_edge.quantize.calibration_data import find_calibration_data

    data = find_calibration_data(folder, classes, CALIBRATION_PICTURES)
    note(f"calibrating on {len(data.pictures)} of {data.available} pictures")
    if data.labelled is not None:
        note(f"measuring on {len(data.labelled.pictures)} pictures of {data.labelled.name}")
    elif data.why_not:
        note(f"not measuring: {data.why_not}")
    return data


def _print(report: VerifyReport, out_dir: Path) -> None:
    from fcos_edge.bundle import read_manifest

    sizes = {
        artifact.name: sum(file.bytes for file in artifact.files)
        for artifact in read_manifest(out_dir).artifacts
    }
    rows = [(row.file, sizes[row.file], row.runtime, "passed", row.note) for row in report.artifacts]
    print_table(("artifact", "bytes", "runtime", "result", "note"), rows)
    note(f"wrote {out_dir}")
