"""`fcos-edge export`: a checkpoint becomes a verified bundle. Needs torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fcos_edge.arguments import CALIBRATION_PICTURES
from fcos_edge.console import note, print_json, print_table, track
from fcos_edge.errors import DataError, UsageError

if TYPE_CHECKING:
    from fcos_edge.runtime import UInt8Array
    from fcos_edge.verify import VerifyReport

SUMMARY = "write a checkpoint as ONNX, OpenVINO and TFLite, verified against PyTorch"


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
        help=f"pictures to calibrate int8 on, no labels: up to {CALIBRATION_PICTURES} are taken from this"
        " folder and those below it (default: the ranges that the checkpoint carries)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="the bundle (default: the model's name)")
    parser.epilog = (
        "The bundle appears when every artifact has passed its checks, and not before; one that is there"
        " already is replaced then."
    )


def run(args: argparse.Namespace) -> int:
    # Cheap mistakes first: torch takes seconds to load.
    formats = _formats(args.formats)
    if args.data is not None and not args.int8:
        raise UsageError("--data: pictures are for int8 only; add --int8, or leave it out")
    pictures = None if args.data is None else _pictures(args.data)

    from fcos_edge import embedded
    from fcos_edge.bundle import sha256_of
    from fcos_edge.quantize.export import export
    from fcos_edge.train.checkpoint import load_checkpoint

    path: Path = args.checkpoint or embedded.CHECKPOINT
    checkpoint = load_checkpoint(path)
    provenance = {**checkpoint.spec.provenance, "checkpoint_sha256": sha256_of(path)}
    checkpoint = replace(checkpoint, spec=replace(checkpoint.spec, provenance=provenance))
    out_dir: Path = args.out or Path(checkpoint.spec.name)
    report = export(checkpoint, out_dir, formats, is_int8=args.int8, pictures=pictures, say=note)
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


def _pictures(folder: Path) -> Iterator[UInt8Array]:
    """The pictures to calibrate on, evenly picked from all below `folder`; read when they are asked for."""
    from fcos_edge.image import read_image_bgr
    from fcos_edge.sources import list_pictures, spread

    if not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"--data {folder}: {found}; name a folder with pictures")
    paths = list_pictures(folder, is_recursive=True)
    chosen = spread(paths, CALIBRATION_PICTURES)
    note(f"calibrating on {len(chosen)} of {len(paths)} pictures")
    return track(map(read_image_bgr, chosen), "reading pictures", len(chosen))


def _print(report: VerifyReport, out_dir: Path) -> None:
    from fcos_edge.bundle import read_manifest

    sizes = {
        artifact.name: sum(file.bytes for file in artifact.files)
        for artifact in read_manifest(out_dir).artifacts
    }
    rows = [(row.file, sizes[row.file], row.runtime, "passed", row.note) for row in report.artifacts]
    print_table(("artifact", "bytes", "runtime", "result", "note"), rows)
    note(f"wrote {out_dir}")
