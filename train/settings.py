"""One setting of a training config by its name: `assign.center_radius=0`, `loss.boxes=iou`.

So every named option can be tried, and an ablation is a line on the command line.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import reduce
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from fcos_edge.errors import UsageError
from fcos_edge.spec import is_number, shown
from fcos_edge.train.config import NetworkConfig, TrainConfig
from fcos_edge.train.presets import with_backbone

# Smallest and largest value of settings that are numbers of something.
_LIMITS: Mapping[str, tuple[float, float]] = {
    "augment.keep_object": (0, 1),
    "augment.paste": (0, 100),
    "balance": (0, 1),
    "distill.classes": (0, 1000),
    "distill.boxes": (0, 1000),
    "distill.centerness": (0, 1000),
}


def with_setting(config: TrainConfig, text: str) -> TrainConfig:
    """`config` with one value changed; `text` is `name=value`, the value as JSON or a bare word.

    Another backbone brings the mean and deviation that it was trained with.

    Raises UsageError for a name that no config has, and for a value that it cannot have.
    """
    name, equals, word = text.partition("=")
    if not equals:
        raise UsageError(f"setting {shown(text)} has no value; give name=value, as assign.center_radius=0")
    try:
        value = json.loads(word)
    except ValueError:
        value = word
    changed = cast(TrainConfig, _changed(config, name.split("."), value, name))
    _check_limits(changed, name)
    if name == "network.backbone":
        changed = with_backbone(config, changed.network.backbone)
    NetworkConfig.from_dict(changed.network.to_dict())  # its own rules are stricter
    return changed


def _check_limits(config: TrainConfig, name: str) -> None:
    """Raises UsageError for a number that lies outside."""
    if name in _LIMITS:
        low, high = _LIMITS[name]
        value = reduce(getattr, name.split("."), cast(Any, config))
        if not low <= value <= high:
            raise UsageError(f"setting {name} is {shown(value)}, expected a number from {low:g} to {high:g}")


def _changed(config: Any, path: list[str], value: Any, name: str) -> Any:
    names = [field.name for field in fields(config)]
    if path[0] not in names:
        raise UsageError(f"setting {shown(name)} is not known; {path[0]} may be {', '.join(names)}")
    hint = get_type_hints(type(config))[path[0]]
    if is_dataclass(hint):
        if len(path) == 1:
            inside = ", ".join(f"{name}.{field.name}" for field in fields(hint))
            raise UsageError(f"setting {shown(name)} is a group; set one of {inside}")
        return replace(config, **{path[0]: _changed(getattr(config, path[0]), path[1:], value, name)})
    if len(path) > 1:
        raise UsageError(f"setting {shown(name)} is not known; {path[0]} is no group of settings")
    try:
        return replace(config, **{path[0]: _as(hint, value)})
    except ValueError:
        raise UsageError(f"setting {name} is {shown(value)}, expected {_in_words(hint)}") from None


def _as(hint: Any, value: Any) -> Any:
    """A JSON value as `hint` says. Raises ValueError where it is none."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal and value in inside:
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _as(next(kind for kind in inside if kind is not type(None)), value)
    if origin is tuple and isinstance(value, list):
        kinds = (inside[0],) * len(value) if inside[1:] == (...,) else inside
        if len(kinds) == len(value):
            return tuple(_as(kind, item) for kind, item in zip(kinds, value, strict=True))
    if hint is float and (value == "inf" or is_number(value)):
        return float(value)
    if hint in (int, bool, str) and type(value) is hint:
        return value
    raise ValueError(value)


def _in_words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    words: Mapping[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a name",
    }
    return words.get(hint) or f"a list, {str(hint).replace('typing.', '')}"
