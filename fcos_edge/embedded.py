"""The detector that comes with the package: a checkpoint, which `export` makes a bundle of."""

from __future__ import annotations

from pathlib import Path

NAME = "street8-lite0-320"
CHECKPOINT = Path(__file__).parent / "models" / f"{NAME}.safetensors"
