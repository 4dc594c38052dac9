"""The mean of several runs' weights, as one checkpoint:

    python -m fcos_edge.train.average a.safetensors b.safetensors c.safetensors --out mean.safetensors

Runs that began with the same weights and ended near each other, by another seed, recipe or length, often have
a mean that is better than each ("model soups", arXiv 2203.05482) and costs nothing on the device. Runs with
heads drawn anew, as all that begin with ImageNet's weights, may lie too far apart: begin them with one
detector (`train --start`), and measure the mean with `eval`.

Statistics of batch normalization are averaged like weights. That is exact only to first order in how far the
runs lie apart. A short run that begins with the mean (`--start`), at a small learning rate, settles them.

What held of the runs' weights does not hold of their mean: it has no figures and no calibration record (make
one with `fcos_edge.quantize.recalibrate`, or export with `--data`), and every operating threshold is 0.5.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fcos_edge import __version__
from fcos_edge.console import note
from fcos_edge.errors import FcosEdgeError, UsageError
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fcos_edge.train.model import Fcos
from fcos_edge.train.start import checkpoint_file_of, described
from fcos_edge.writing import check_new_file

NO_THRESHOLD = 0.5  # as of a run that held nothing out
# Of a spec, what is no convention: it may differ between runs.
_FREE = ("name", "provenance")


def average(paths: Sequence[Path]) -> Checkpoint:
    """The mean of the checkpoints at `paths`; name, settings and integer buffers are the first's.

    Raises UsageError for fewer than two, and where their networks or specs differ.
    """
    if len(paths) < 2:
        raise UsageError("one checkpoint has no mean; give two or more")
    loaded = [load_checkpoint(path) for path in paths]
    first = loaded[0]
    for path, other in zip(paths[1:], loaded[1:], strict=True):
        _check_same(path, other, paths[0], first)
    network = Fcos(first.network_config)
    network.load_state_dict(mean_weights([one.network.state_dict() for one in loaded]))
    config = {
        **first.config,
        "made_from": _each_once([one.config.get("made_from", []) for one in loaded]),
        "averaged_from": [described(checkpoint_file_of(path)) for path in paths],
    }
    data = _each_once([one.spec.provenance.get("data", []) for one in loaded])
    # Licences, and which pictures trained, are said only where all runs say the same.
    agreed = {
        key: value
        for key, value in first.spec.provenance.items()
        if all(key in one.spec.provenance and one.spec.provenance[key] == value for one in loaded)
    }
    spec = replace(first.spec, provenance={**agreed, "data": data, "fcos_edge": __version__})
    thresholds = (NO_THRESHOLD,) * len(spec.classes)
    return Checkpoint(network.eval(), first.network_config, spec, thresholds, {}, config)


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor of numbers; integers are the first's."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


def _check_same(path: Path, other: Checkpoint, first_path: Path, first: Checkpoint) -> None:
    """Raise UsageError where two checkpoints are not of one network and spec."""
    for own, wanted in (
        (other.network_config.to_dict(), first.network_config.to_dict()),
        (other.spec.to_dict(), first.spec.to_dict()),
    ):
        for name, value in own.items():
            if name not in _FREE and value != wanted[name]:
                raise UsageError(
                    f"{path.name}: its {name} is {value}, that of {first_path.name} {wanted[name]};"
                    " give checkpoints of one network and spec"
                )


def _each_once(lists: Sequence[Sequence[Any]]) -> list[Any]:
    """What is in any of the lists, in order."""
    found: list[Any] = []
    for values in lists:
        found += [value for value in values if value not in found]
    return found


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The mean of several checkpoints' weights.")
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new checkpoint")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    args = make_parser().parse_args(words)
    try:
        check_new_file(args.out, "--out")
        save_checkpoint(args.out, average(args.checkpoints))
    except FcosEdgeError as error:
        print(f"fcos-edge: {error}", file=sys.stderr)
        return error.exit_code
    note(f"wrote {args.out}: the mean of {len(args.checkpoints)}, without figures and calibration record")
    return 0


if __name__ == "__main__":
    sys.exit(main())
