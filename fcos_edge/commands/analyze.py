"""`fcos-edge analyze`: what a network's shape makes of a data set, before anything is trained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcos_edge import __version__
from fcos_edge.arguments import add_model_options, different_names
from fcos_edge.console import note, print_json, print_table
from fcos_edge.errors import GateError, UsageError
from fcos_edge.report.options import add_page_options, check_page_options, write_pages

if TYPE_CHECKING:
    from fcos_edge.detector import Detector
    from fcos_edge.train.analyze.analysis import Analysis
    from fcos_edge.train.analyze.origins import OriginCount
    from fcos_edge.train.config import TrainConfig

SUMMARY = "measure a data set: best possible recall, ambiguous samples, anchors, box sizes"
EXTRA = "train"

SCHEMA = "fcos-edge.analyze/1.0"
_PRESET = "lite0-320"
_PAPER_LEVEL = "p4"  # table 1 and 2: "FCOS without FPN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="D", type=Path, required=True,
        help="data set in COCO, YOLO or VOC format: its folder, its data.yaml or its COCO file, which needs"
        " no pictures",
    )  # fmt: skip
    parser.add_argument("--split", metavar="S", default="val", help="which pictures (default: %(default)s)")
    parser.add_argument(
        "--classes", metavar="A,B", type=different_names,
        help="class names, comma between them (default: the model's, else all of the data set)",
    )  # fmt: skip
    parser.add_argument(
        "--licence", choices=("commercial",),
        help="only pictures whose licence record allows commercial use, as `train --licence` takes them",
    )  # fmt: skip
    parser.add_argument(
        "--preset", metavar="P",
        help=f"whose levels, ranges, centre radius and input are measured (default: {_PRESET})",
    )  # fmt: skip
    parser.add_argument(
        "--size",
        metavar="HxW",
        type=_size_hw,
        help="another input, height then width (default: the preset's)",
    )
    parser.add_argument(
        "--paper", action="store_true",
        help="as in the tables of the paper: 800/1333, its ranges and boxes, crowds dropped",
    )  # fmt: skip
    parser.add_argument(
        "--level", metavar="L",
        help=f"one level that has to learn everything, beside all together (with --paper: {_PAPER_LEVEL})",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="draw histograms of box sizes and aspect ratios there"
    )
    add_page_options(parser, has_markdown=False)
    parser.add_argument(
        "--check", action="store_true",
        help="look for faults instead, in all splits: missing pictures, boxes outside, copies, ...;"
        " exit code 1 where training would refuse the data",
    )  # fmt: skip
    parser.add_argument(
        "--model", metavar="MODEL", type=Path,
        help="bundle, model file or checkpoint: how many of its detections are from ambiguous locations;"
        " input and levels are then the model's",
    )  # fmt: skip
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    _refuse_contradictions(args)
    if args.check:
        return _check(args)
    if args.out is not None:
        from fcos_edge.train.analyze.histograms import check_folder

        check_folder(args.out)
    check_page_options(args)
    # The paper needs no preset.
    config = None if args.paper else _config(args.preset or _PRESET)
    if args.model is None:
        _report(args, *_analyze(args, config, None))
        return 0
    from fcos_edge.opening import open_model

    with open_model(args.model, args) as detector:
        _report(args, *_analyze(args, config, detector))
    return 0


def _analyze(
    args: argparse.Namespace, config: TrainConfig | None, detector: Detector | None
) -> tuple[Analysis, OriginCount | None]:
    from fcos_edge.console import track
    from fcos_edge.train.analyze.analysis import analyze
    from fcos_edge.train.analyze.boxes import read_boxes
    from fcos_edge.train.analyze.origins import count_origins
    from fcos_edge.train.analyze.shape import PAPER_ASSIGN, config_shape, paper_shape, spec_shape
    from fcos_edge.train.data.licensed import licence_lines

    classes = args.classes if args.classes or detector is None else detector.spec.classes
    data = read_boxes(args.data, args.split, classes, args.licence)
    for line in licence_lines(data.licences):
        note(line.strip())
    if config is None:
        shape = paper_shape()
    elif detector is None:
        shape = config_shape(config, args.size)
    else:
        shape = spec_shape(detector.spec, config.assign)
    level = args.level or (_PAPER_LEVEL if config is None else None)
    analysis = analyze(data, shape, [level] if level else [])
    if detector is None:
        return analysis, None
    # The model sees pictures in its own way also where the paper says which boxes a location may learn.
    rule = spec_shape(detector.spec, PAPER_ASSIGN if config is None else config.assign).rule
    tracked = track(data.pictures, f"running {args.data.resolve().name}/{args.split}", len(data.pictures))
    return analysis, count_origins(detector, tracked, rule)


def _report(args: argparse.Namespace, analysis: Analysis, origins: OriginCount | None) -> None:
    name = args.data.resolve().name if args.data.is_file() else f"{args.data.resolve().name} {args.split}"
    document = {
        "schema": SCHEMA, "command": args.command_line, "fcos_edge": __version__,
        "data": args.data.resolve().name, "split": args.split, "counts": list(analysis.counts),
        **analysis.to_dict(),
    }  # fmt: skip
    if args.licence is not None:
        name = f"{name}, licensed for {args.licence} use"
        document["licence"] = args.licence
    if origins is not None:
        document["detections"] = origins.to_dict()
    if args.out is not None:
        from fcos_edge.train.analyze.histograms import write_histograms

        written = write_histograms(args.out, analysis, name)
        document["histograms"] = [str(path) for path in written]
        note(f"wrote {' and '.join(map(str, written))}")
    if args.json:
        print_json(document)
    else:
        _print(name, document, list(analysis.counts))
    # Last: a disk that is full by now must not cost what was measured.
    if args.html is not None:
        from fcos_edge.report.analysis import analysis_page

        write_pages(args, lambda: analysis_page(document))


def _print(name: str, document: dict[str, Any], names: Sequence[str]) -> None:
    """names: of the counts in the document, all levels together first."""
    left_out = f", {document['left_out']:,} crowds and difficult ones left out" * bool(document["left_out"])
    print(
        f"{name}: {document['pictures']:,} pictures, {document['boxes']:,} boxes of"
        f" {document['classes']} classes{left_out}"
    )
    print(f"{document['conventions']}\n")
    rows = [
        (
            "all levels" if place == 0 else f"{count} alone",
            *(_two_digits(document[count][key]) for key in
              ("best_possible_recall", "ambiguous", "ambiguous_between_classes")),
            document[count]["positives"],
        )
        for place, count in enumerate(names)
    ]  # fmt: skip
    anchors = document["anchors"]
    rows.append(("9 anchors, IoU >= 0.5", _two_digits(anchors["without_low_quality"]), "", "", None))
    rows.append(("... and low-quality >= 0.4", _two_digits(anchors["best_possible_recall"]), "", "", None))
    print_table(("", "best possible recall %", "ambiguous %", "between classes %", "positives"), rows)
    print()
    print_table(("level", "stride", "distances", "locations", "positives", "% of positives"), [
        (level, row["stride"], _range(row["range"]), row["locations"], row["positives"],
         _two_digits(row["share_of_positives"]))
        for level, row in document[names[0]]["levels"].items()
    ])  # fmt: skip
    print()
    kinds = {"box size in the input, pixels": "box_sizes", "width / height": "aspect_ratios"}
    print_table(
        ("share of boxes below", *document["box_sizes"]),
        [(text, *document[key].values()) for text, key in kinds.items()],
    )
    if found := document.get("detections"):
        print(
            f"\n{found['detections']:,} detections, from ambiguous locations"
            f" {_two_digits(found['ambiguous'])} %, between classes"
            f" {_two_digits(found['ambiguous_between_classes'])} %"
        )


def _two_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _range(ends: Sequence[float | None]) -> str:
    low, high = ends
    return f"{low:g} to {high:g}" if high is not None else f"from {low:g}"


def _check(args: argparse.Namespace) -> int:
    """The data check alone, of all splits; 1 where training would refuse them."""
    from fcos_edge.errors import DataError
    from fcos_edge.train.data.check import check_data
    from fcos_edge.train.data.formats import find_format, read_labels

    splits = [args.split]
    if not args.data.is_file() or args.data.suffix.lower() != ".json":
        found = find_format(args.data, args.split).splits(args.data)
        # The first is the one that trains.
        splits = sorted(set(found), key=lambda split: (split != "train", split))
    has_pictures = len(splits) > 1 or any(
        picture.path.is_file() for picture in read_labels(args.data, splits[0]).pictures
    )
    if not has_pictures:
        note(f"{args.data}: none of its pictures is here; looking at labels alone")
    report = check_data(
        [(args.data, split) for split in splits], args.classes, pictures=has_pictures, licence=args.licence
    )
    refusal = None
    try:
        report.raise_if_refused()
    except DataError as error:
        refusal = str(error)
    if args.json:
        print_json({**report.to_dict(), "is_refused": refusal is not None})
    else:
        print("\n".join(report.lines()))
    if refusal is not None:
        raise GateError(refusal)
    return 0


def _config(preset: str) -> TrainConfig:
    from fcos_edge.train.presets import PRESETS

    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is not known; choose from {', '.join(PRESETS)}")
    return PRESETS[preset]


def _refuse_contradictions(args: argparse.Namespace) -> None:
    """Options that another one would leave without effect. Raises UsageError."""
    shape = {"--preset": args.preset, "--size": args.size}
    model = {f"--{name}": getattr(args, name) for name in ("runtime", "precision", "device", "threads")}
    rules = [
        (args.check, "--check looks at labels and pictures alone",
         {**shape, **model, "--paper": args.paper or None, "--level": args.level, "--out": args.out,
          "--html": args.html, "--model": args.model}),
        (args.paper, "--paper says how pictures are scaled, and which levels there are", shape),
        (args.model is not None, "--model has an input of its own", {"--size": args.size}),
        (args.model is None, "there is no --model", model),
    ]  # fmt: skip
    for holds, reason, options in rules:
        for name, value in options.items():
            if holds and value is not None:
                raise UsageError(f"{name}: {reason}; leave {name} out")


def _size_hw(text: str) -> tuple[int, int]:
    """`320x192`: height, then width."""
    height, _, width = text.partition("x")
    if not all(side.isascii() and side.isdigit() and int(side) > 0 for side in (height, width)):
        raise argparse.ArgumentTypeError(f"{text!r} is no height and width, as in 320x192")
    return int(height), int(width)
