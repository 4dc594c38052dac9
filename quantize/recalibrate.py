"""Give a checkpoint a new calibration record, so that exporting it needs no pictures:

    python -m fcos_edge.quantize.recalibrate old.safetensors --data coco-person --out new.safetensors

`train` does the same at its end. Of data sets the `train` pictures are taken.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fcos_edge.arguments import CALIBRATION_PICTURES
from fcos_edge.console import note
from fcos_edge.errors import FcosEdgeError
from fcos_edge.quantize.calibration_data import PictureFiles, find_calibration_data
from fcos_edge.quantize.make_record import calibrated_checkpoint
from fcos_edge.quantize.recipe import DEFAULT_RECIPE, parse_recipe
from fcos_edge.train.checkpoint import load_checkpoint, save_checkpoint
from fcos_edge.writing import check_new_file


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Give a checkpoint a new calibration record.")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="D", help="folders of pictures, or data sets"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new checkpoint")
    parser.add_argument("--recipe", default=DEFAULT_RECIPE.name, metavar="R", help="default: %(default)s")
    return parser


def recalibrate(checkpoint: Path, data: list[Path], out: Path, recipe: str) -> None:
    """Write `out`. Raises FcosEdgeError for what is wrong with the arguments."""
    check_new_file(out, "--out")
    chosen = parse_recipe(recipe)
    loaded = load_checkpoint(checkpoint)
    paths: list[Path] = []
    for folder in data:
        found = find_calibration_data(folder, loaded.spec.classes, CALIBRATION_PICTURES // len(data))
        assert isinstance(found.pictures, PictureFiles)
        paths += found.pictures.paths
    save_checkpoint(out, calibrated_checkpoint(loaded, PictureFiles(paths), chosen, note))
    note(f"wrote {out}")


def main() -> int:
    """Returns the exit code."""
    args = make_parser().parse_args()
    try:
        recalibrate(args.checkpoint, args.data, args.out, args.recipe)
    except FcosEdgeError as error:
        print(f"fcos-edge: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
