"""The graph boundary: what a network takes and returns, and the flat buffers that its outputs end in.

Every network takes one uint8 picture batch and returns three raw tensors per level. This file checks at
load that a file's inputs and outputs are those of its spec, and puts the levels of a branch one after
the other.

N  pictures in a batch
L  locations of all levels
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fcos_edge.artifact import ArtifactInfo
from fcos_edge.errors import ArtifactError, ImageError
from fcos_edge.runtime import Branch, RawOutputs, UInt8Array
from fcos_edge.spec import BRANCHES, ModelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Port(NamedTuple):
    """An input or output as a runtime reports it. In `shape`, None stands for any size."""

    shape: tuple[int | None, ...]
    dtype: npt.DTypeLike


@dataclass(frozen=True)
class InputLayout:
    """The checked input: (N, H, W, 3).

    batch  None where any N will do; else as many as the network always computes, black pictures filling up
    """

    batch: int | None
    size_hw: tuple[int, int]
    dtype: np.dtype[Any]

    def check(self, images: UInt8Array) -> None:
        """Raise ImageError unless `images` is (N, H, W, 3) uint8 with at most the N of this network."""
        if (
            images.dtype == np.uint8
            and images.ndim == 4
            and images.shape[1:] == (*self.size_hw, 3)
            and 1 <= images.shape[0] <= (self.batch or images.shape[0])
        ):
            return
        wanted = (self.batch or "N", *self.size_hw, 3)
        raise ImageError(
            f"images: found {images.dtype} {_text(images.shape)}, the network takes uint8 {_text(wanted)}"
        )

    def filled_up(self, images: UInt8Array) -> UInt8Array:
        """Checked pictures, and black ones up to the network's batch."""
        missing = (self.batch or 0) - len(images)
        if missing <= 0:
            return images
        return np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])

    def encode(self, images: UInt8Array, target: Array) -> None:
        """Write checked pictures into `target`, (N, H, W, 3) of the network's input dtype.

        int8 is the picture shifted by 128: zero point -1 in place of 127. float32 is the pixel value.
        """
        if target.dtype == np.int8:
            # Flipping the highest bit subtracts 128 in two's complement, without leaving eight bits.
            np.bitwise_xor(images, 0x80, out=target.view(np.uint8))
        else:
            np.copyto(target, images, casting="safe")


def check_input(
    path: Path, spec: ModelSpec, port: Port, dtypes: Sequence[npt.DTypeLike] = (np.uint8,)
) -> InputLayout:
    """Raise ArtifactError unless `port` takes the pictures of `spec` in one of `dtypes`."""
    size_hw = spec.input_hw
    if len(port.shape) != 4 or port.shape[1:] != (*size_hw, 3):
        raise ArtifactError(
            f"{path}: the input is {_text(port.shape)}, expected {_text(('N', *size_hw, 3))}; export it again"
        )
    if port.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        wanted = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        found = np.dtype(port.dtype).name
        raise ArtifactError(f"{path}: the input is {found}, expected {wanted}; export it again")
    return InputLayout(port.shape[0], size_hw, np.dtype(port.dtype))


class OutputLayout:
    """The checked outputs of one file; makes the buffers that they are written to."""

    def __init__(self, path: Path, spec: ModelSpec, info: ArtifactInfo, ports: Mapping[str, Port]) -> None:
        """Raise ArtifactError unless `ports` (name -> port) are the outputs of `spec` and `info`."""
        self._channels = dict(zip(BRANCHES, (len(spec.classes), 4, 1), strict=True))
        self._levels = tuple(zip(spec.level_names, spec.level_hw, strict=True))
        self._num_locations = spec.num_locations
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._quantization: dict[str, tuple[tuple[float, int], ...]] = {}
        recorded = {output.name: output for output in info.outputs}
        for branch, channels in self._channels.items():
            dtypes, quantization = set(), []
            for level, hw in self._levels:
                name = f"{branch}_{level}"
                if name not in ports:
                    raise ArtifactError(f"{path}: output {name} is missing; export it again")
                shape, dtype = ports[name]
                if len(shape) != 4 or shape[1:] != (*hw, channels):
                    raise ArtifactError(
                        f"{path}: output {name} is {_text(shape)}, expected {_text(('N', *hw, channels))};"
                        " export it again"
                    )
                scale, zero_point = recorded[name].scale, recorded[name].zero_point
                dtypes.add(_checked_dtype(path, name, np.dtype(dtype), zero_point))
                if scale is not None and zero_point is not None:
                    quantization.append((scale, zero_point))
            if len(dtypes) != 1:
                raise ArtifactError(f"{path}: the levels of {branch} differ in dtype; export it again")
            self._dtypes[branch] = dtypes.pop()
            self._quantization[branch] = tuple(quantization)

    def allocate(self, batch: int) -> FlatOutputs:
        """Buffers for `batch` pictures."""
        flat = {
            branch: np.zeros((batch, self._num_locations, channels), self._dtypes[branch])
            for branch, channels in self._channels.items()
        }
        levels = {}
        start = 0
        for level, (height, width) in self._levels:
            stop = start + height * width
            for branch, channels in self._channels.items():
                view = flat[branch][:, start:stop]
                levels[f"{branch}_{level}"] = view.reshape(batch, height, width, channels)
            start = stop
        branches = {branch: Branch(flat[branch], self._quantization[branch]) for branch in BRANCHES}
        centerness = Branch(flat["centerness"][:, :, 0], self._quantization["centerness"])
        return FlatOutputs(RawOutputs(branches["logits"], branches["ltrb"], centerness), levels)


class FlatOutputs:
    """One flat buffer per branch, reused by every run.

    raw      what a run returns
    levels   output name -> (N, h, w, C) view of the flat buffer
    targets  output name -> contiguous (N, h, w, C) array that a runtime may write to directly: the view
             itself for one picture, an array of its own for more, which `gather` then copies
    """

    def __init__(self, raw: RawOutputs, levels: Mapping[str, Array]) -> None:
        self.raw = raw
        self.levels = levels
        self.targets = {
            name: view if view.flags.c_contiguous else np.zeros(view.shape, view.dtype)
            for name, view in levels.items()
        }
        self._copies = [
            (view, self.targets[name]) for name, view in levels.items() if self.targets[name] is not view
        ]

    def gather(self, count: int) -> RawOutputs:
        """The outputs of the first `count` pictures, once the runtime has written all `targets`."""
        for view, target in self._copies:
            np.copyto(view, target)
        return self.first(count)

    def first(self, count: int) -> RawOutputs:
        """The outputs of the first `count` pictures, once the runtime has written all `levels`."""
        if count == len(self.raw.logits.values):
            return self.raw
        return RawOutputs(*(replace(branch, values=branch.values[:count]) for branch in self.raw))


def _checked_dtype(path: Path, name: str, dtype: np.dtype[Any], zero_point: int | None) -> np.dtype[Any]:
    """The dtype, if it is the one that the recorded zero point belongs to."""
    if zero_point is None:
        fits = dtype == np.float32
    else:
        fits = dtype in (np.int8, np.uint8) and np.iinfo(dtype).min <= zero_point <= np.iinfo(dtype).max
    if not fits:
        wanted = "float32" if zero_point is None else f"int8 or uint8 with zero point {zero_point}"
        raise ArtifactError(f"{path}: output {name} is {dtype}, recorded is {wanted}; export it again")
    return dtype


def _text(shape: Sequence[object]) -> str:
    return "[" + ", ".join("?" if side is None else str(side) for side in shape) + "]"
