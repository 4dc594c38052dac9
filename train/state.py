"""The state of a run: a file from which it goes on as if it had never been interrupted.

It holds all that the next step depends on: weights, their average, the optimizer, the scaler of mixed
precision, random states, and the number of steps done, from which seed and step give the order of the
pictures. It is never released. What is released is a checkpoint (`checkpoint.py`).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fcos_edge.errors import CheckpointError
from fcos_edge.train.config import TrainConfig
from fcos_edge.train.run_files import STATE_FILE
from fcos_edge.writing import naming

REMEDY = "move the run's folder, and give it with --out"


def write_state(out_dir: Path, config: TrainConfig, state: Mapping[str, Any]) -> None:
    """Write the state; an older one is replaced only by a complete new one."""
    path, part = out_dir / STATE_FILE, out_dir / f".{STATE_FILE}.part"
    content = io.BytesIO()  # through memory: torch does not say why it cannot write a file
    torch.save({"config": json.dumps(config.to_dict()), "random": random_states(), **state}, content)
    try:
        with naming(path, REMEDY):
            with part.open("wb") as file:
                file.write(content.getbuffer())
                os.fsync(file.fileno())  # a machine that loses power finds the old state or the new
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_state(out_dir: Path, config: TrainConfig) -> dict[str, Any] | None:
    """What `write_state` wrote, on the CPU; None where there is none. The random states are set.

    Raises CheckpointError for a damaged file, and for the state of a run with another config.
    """
    path = out_dir / STATE_FILE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = _as_now(json.loads(state["config"]))
    except Exception as error:  # torch raises many kinds for a broken file
        raise CheckpointError(
            f"{path}: not the state of a run ({type(error).__name__}); delete it to begin again"
        ) from None
    if found != json.loads(json.dumps(config.to_dict())):
        raise CheckpointError(f"{path}: the state of a run with another config; choose another --out")
    set_random_states(state["random"])
    return state


def _as_now(config: Any) -> Any:
    """A stored config with the settings that are younger than it, at their defaults."""
    try:
        return json.loads(json.dumps(TrainConfig.from_dict(config).to_dict()))
    except (AttributeError, KeyError, TypeError, ValueError, CheckpointError):
        return config


def random_states() -> dict[str, Any]:
    """Of torch; samples have generators of their own (see `loader.py`)."""
    states: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Set what `random_states` gave; a run may go on where there is no GPU."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
