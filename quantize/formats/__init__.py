"""The export formats: one file each, found by listing this folder.

Each file has

    FORMAT      its name in `ArtifactInfo.format`
    PRECISIONS  the precisions that it writes unless told otherwise
    ON_REQUEST  others that it can write: fp16, and w8: int8 weights, the rest float
    write       the files `model.<precision>.<suffix>` of one precision, with the JSON document inside

and only serializes what the graph and the record say: no writer rounds or rescales anything.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from fcos_edge.errors import UsageError
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.record import Record
from fcos_edge.spec import ModelSpec


@dataclass(frozen=True)
class WriteOptions:
    """What a device asks of a file besides its precision.

    tflite_io  the integers of an int8 TFLite file's picture and outputs; its inside is int8 in any case
    batch      pictures in a batch; None leaves it to whoever runs the file
    """

    tflite_io: Literal["int8", "uint8"] = "int8"
    batch: int | None = 1

    def __post_init__(self) -> None:
        if self.tflite_io not in ("int8", "uint8"):
            raise UsageError(f"tflite_io is {self.tflite_io!r}; expected int8 or uint8")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"batch is {self.batch}; give 1 or more pictures")


PLAIN_OPTIONS = WriteOptions()


class FormatWriter(Protocol):
    """What a file of this folder holds."""

    FORMAT: str
    PRECISIONS: tuple[str, ...]
    ON_REQUEST: tuple[str, ...]

    def write(
        self,
        folder: Path,
        graph: Graph,
        record: Record | None,
        spec: ModelSpec,
        precision: str,
        operating_thresholds: tuple[float, ...],
        options: WriteOptions = PLAIN_OPTIONS,
    ) -> tuple[Path, ...]:
        """Write one artifact into `folder` and return its files, the one to load first.

        record: needed for int8, ignored otherwise
        """
        ...


def format_names() -> tuple[str, ...]:
    """The formats at hand, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load_writer(name: str) -> FormatWriter:
    """Import the writer of one format. Raises UsageError where it, or its package, is not there."""
    if name not in format_names():
        raise UsageError(f"format {name!r} is unknown; there are {', '.join(format_names())}")
    try:
        return cast(FormatWriter, importlib.import_module(f"{__name__}.{name}"))
    except ImportError as error:
        raise UsageError(
            f'format {name} needs a package that is not here ({error}); pip install "fcos-edge[export]"'
        ) from error
