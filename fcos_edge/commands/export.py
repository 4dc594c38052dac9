"""`fcos-edge export`: a checkpoint becomes a verified bundle. Needs torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from fcos_edge.console import note, print_json, print_table

SUMMARY = "write a checkpoint as ONNX, OpenVINO and TFLite, verified against PyTorch"
MAX_PICTURES = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", nargs="?", type=Path, help="default: the embedded one"
    )
    parser.add_argument("--int8", action="store_true", help="write int8 too")
    parser.add_argument("--formats", default="onnx,openvino,tflite", help="default: onnx,openvino,tflite")
    parser.add_argument(
        "--data", type=Path, metavar="D", help="folder of pictures to calibrate on (no labels)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the bundle (default: the model's name)")


def run(args: argparse.Namespace) -> int:
    from fcos_edge import embedded
    from fcos_edge.errors import DataError
    from fcos_edge.image import read_image_bgr
    from fcos_edge.quantize.export import export
    from fcos_edge.train.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(args.checkpoint or embedded.CHECKPOINT)
    out_dir: Path = args.out or Path(checkpoint.spec.name)
    pictures = None
    if args.data is not None:
        suffixes = {".jpg", ".jpeg", ".png"}
        files = sorted(path for path in args.data.rglob("*") if path.suffix.lower() in suffixes)
        if not files:
            raise DataError(f"{args.data}: no .jpg or .png pictures; give a folder with some")
        chosen = files[:: -(-len(files) // MAX_PICTURES)]
        note(f"calibrating on {len(chosen)} of {len(files)} pictures")
        pictures = (read_image_bgr(path) for path in chosen)
    formats = [name.strip() for name in args.formats.split(",")]
    report = export(checkpoint, out_dir, formats, is_int8=args.int8, pictures=pictures, say=note)
    if args.json:
        print_json({"bundle": str(out_dir), **report.to_dict()})
    else:
        rows = [(r.file, (out_dir / r.file).stat().st_size, r.runtime, "passed") for r in report.artifacts]
        print_table(("artifact", "bytes", "runtime", "result"), rows)
        note(f"wrote {out_dir}")
    return 0
