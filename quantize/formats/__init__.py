"""The export formats: one file each, found by listing this folder.

Each file has

    FORMAT      its name in `ArtifactInfo.format`
    PRECISIONS  the precisions that it can write
    write       the files `model.<precision>.<suffix>` of one precision, with the JSON document inside

and only serializes what the graph and the record say: no writer rounds or rescales anything.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Protocol, cast

from fcos_edge.errors import UsageError
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.record import Record
from fcos_edge.spec import ModelSpec


class FormatWriter(Protocol):
    """What a file of this folder holds."""

    FORMAT: str
    PRECISIONS: tuple[str, ...]

    def write(
        self,
        folder: Path,
        graph: Graph,
        record: Record | None,
        spec: ModelSpec,
        precision: str,
        operating_thresholds: tuple[float, ...],
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
