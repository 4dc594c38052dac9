"""`fcos-edge eval`: accuracy of a checkpoint, a bundle or a model file on labelled pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcos_edge.arguments import add_model_options
from fcos_edge.console import note, print_json, print_table
from fcos_edge.errors import DataError, UsageError
from fcos_edge.report.options import add_page_options, check_page_options, write_pages
from fcos_edge.writing import check_new_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fcos_edge.detections import Detections
    from fcos_edge.detector import Detector
    from fcos_edge.train.data.dataset import LabelledPicture
    from fcos_edge.train.evaluation.coco_figures import Evaluation

SUMMARY = "measure accuracy on labelled pictures: the COCO figures, and AP per class"
SCHEMA = "fcos-edge.eval/1.1"
EXTRA = "parity"  # a checkpoint needs more, and opening it says so


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", type=Path,
        help="bundle, one .onnx, .xml or .tflite file, or a checkpoint (default: ./street8-lite0-320,"
        " else the embedded detector in PyTorch)",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="D", type=Path, required=True,
        help="data set in COCO, YOLO or VOC format: its folder, its COCO file or its data.yaml;"
        " with --results also pictures without labels: a folder, a text file with a path on each line, or"
        " COCO's image_info_<name>.json",
    )  # fmt: skip
    parser.add_argument("--split", metavar="S", default="val", help="which pictures (default: %(default)s)")
    parser.add_argument(
        "--classes",
        metavar="C,C",
        help="some of the model's classes (default: all, and the data has them all)",
    )
    parser.add_argument(
        "--results", metavar="FILE", type=Path, help="write all detections as COCO result JSON"
    )
    parser.add_argument(
        "--curves", action="store_true", help="add precision at 101 recalls for each class; needs --json"
    )
    add_page_options(parser, has_markdown=False)
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    # Cheap mistakes first: a model takes seconds to load.
    from fcos_edge.opening import open_model
    from fcos_edge.train.data.picture_list import is_unlabelled

    if args.curves and not args.json:
        raise UsageError("--curves: 101 numbers a class are for programs; add --json, or leave it out")
    if args.results is not None:
        check_new_file(args.results, "--results")
    check_page_options(args)
    if is_unlabelled(args.data):
        if args.html is not None:
            raise DataError(
                f"{args.data}: pictures without labels, there is nothing to show; leave --html out"
            )
        if args.results is None:
            raise DataError(
                f"{args.data}: pictures without labels, there is nothing to measure;"
                " give a labelled data set, or write what is found with --results FILE"
            )
        return _run_unlabelled(args)
    from fcos_edge.train.data.formats import class_names

    names = class_names(args.data, args.split)
    with open_model(args.model, args) as detector:
        classes = _chosen(args.classes, detector.spec.classes)
        _check_labelled(classes, names, args.data)
        return _run_labelled(args, detector, classes)


def _run_labelled(args: argparse.Namespace, detector: Detector, classes: tuple[str, ...]) -> int:
    from fcos_edge.train.evaluation.evaluate import read_split
    from fcos_edge.train.evaluation.mistakes import find_mistakes
    from fcos_edge.train.evaluation.operating import measure_at_threshold

    labelled = read_split(args.data, args.split, classes)
    found = _find(detector, labelled.pictures, classes, f"evaluating {labelled.name}")
    evaluation = labelled.compare(found)
    document = {"data": args.data.resolve().name, "split": args.split}
    if args.results is not None:
        ids = "image_id and category_id are the data set's"
        document |= _write(args.results, labelled.results(found), len(found), ids)
    if args.json or args.html is not None:
        document |= _described(args, detector)
        thresholds = [detector.operating_thresholds[detector.spec.classes.index(name)] for name in classes]
        at_threshold = measure_at_threshold(labelled, found, thresholds)
        document |= at_threshold.add_to(evaluation.to_dict(has_curves=True))
        document = find_mistakes(labelled, found, thresholds).add_to(document)
    if args.json:
        print_json({key: value for key, value in document.items() if args.curves or key != "curves"})
    else:
        _print(evaluation)
    # Last: a disk that is full by now must not cost what was measured.
    if args.html is not None:
        from fcos_edge.report.evaluation import evaluation_page

        write_pages(args, lambda: evaluation_page(document, args.data))
    return 0


def _described(args: argparse.Namespace, detector: Detector) -> dict[str, Any]:
    """What was measured, where, and how to do it again."""
    from fcos_edge.conditions import measure_conditions
    from fcos_edge.threads import checked_threads

    name = "the embedded checkpoint" if args.model is None else args.model.name
    return {
        "schema": SCHEMA, "command": args.command_line, "name": detector.spec.name,
        "model": detector.description or f"{name} (fp32) in PyTorch",
        "input_hw": list(detector.spec.input_hw),
        "conditions": measure_conditions(checked_threads(args.threads)),
    }  # fmt: skip


def _run_unlabelled(args: argparse.Namespace) -> int:
    from fcos_edge.coco_results import coco_results
    from fcos_edge.opening import open_model
    from fcos_edge.train.data.picture_list import read_picture_list

    listed = read_picture_list(args.data)
    with open_model(args.model, args) as detector:
        classes = _chosen(args.classes, detector.spec.classes)
        category_ids = listed.category_ids(detector.spec.classes, classes)
        found = _find(detector, listed.pictures, classes, f"running {args.data.resolve().name}")
    by_id = dict(zip((picture.image_id for picture in listed.pictures), found, strict=True))
    categories = "the list's" if listed.category_of else "the class's place among the model's, from 1"
    ids = f"image_id is {listed.image_ids}, category_id is {categories}"
    document = {"data": args.data.resolve().name, "pictures": len(found)}
    document |= _write(args.results, coco_results(by_id, category_ids), len(found), ids)
    if args.json:
        print_json(document)
    return 0


def _chosen(text: str | None, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes that `--classes` names, in the model's order."""
    if text is None:
        return classes
    names = [name.strip() for name in text.split(",")]
    for index, name in enumerate(names):
        if name not in classes:
            raise UsageError(f"--classes: {name!r} is none of the model's: {', '.join(classes)}")
        if name in names[:index]:
            raise UsageError(f"--classes: {name} is named twice; name it once")
    return tuple(name for name in classes if name in names)


def _check_labelled(classes: tuple[str, ...], names: Sequence[str], data: Path) -> None:
    if missing := [name for name in classes if name not in names]:
        common = ",".join(name for name in classes if name in names)
        advice = f"measure the others with --classes {common}" if common else "give data that labels it"
        raise DataError(f"{data}: no class {missing[0]!r}; it has {', '.join(sorted(names))}; {advice}")


def _find(
    detector: Detector, pictures: Sequence[LabelledPicture], classes: tuple[str, ...], what: str
) -> list[Detections]:
    from fcos_edge.train.evaluation.evaluate import find_candidates, keep_classes

    return keep_classes(find_candidates(detector, pictures, what), detector.spec.classes, classes)


def _write(path: Path, results: list[dict[str, Any]], num_pictures: int, ids: str) -> dict[str, Any]:
    """Write the file and say so; what the JSON document says of it."""
    from fcos_edge.coco_results import write_results

    write_results(path, results)
    note(f"wrote {path}: {len(results)} detections in {num_pictures} pictures; {ids}")
    return {"results": {"file": str(path), "detections": len(results), "ids": ids}}


def _print(evaluation: Evaluation) -> None:
    from fcos_edge.train.evaluation.coco_figures import FIGURES

    # COCO's -1 says that there is nothing to measure.
    shown = {name: None if value < 0 else value for name, value in evaluation.figures.items()}
    rescaled = evaluation.rescaled_pictures
    print(f"{evaluation.pictures} pictures" + f"; sizes are of the originals in {rescaled}" * (rescaled > 0))
    print_table(FIGURES, [[shown[name] for name in FIGURES]])
    print()
    rows = [
        (row.name, row.boxes, None if row.ap < 0 else row.ap, None if row.ap50 < 0 else row.ap50)
        for row in evaluation.classes
    ]
    print_table(("class", "boxes", "AP", "AP50"), rows)
