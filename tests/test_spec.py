"""The model spec: what is valid, what JSON gives back, and that nothing but SpecError comes out."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fcos_edge.errors import SpecError
from fcos_edge.spec import ModelSpec
from tests.small_specs import SMALL_SPEC

DOCUMENT = SMALL_SPEC.to_dict()
KEYS = [f.name for f in fields(ModelSpec)]
HUGE = 10**400  # an integer in JSON, and no float


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value, the odd ones often."""
    numbers = st.floats() | st.integers() | st.sampled_from([HUGE, -HUGE, 0, 1, -1, 0.5, 2**63])
    texts = st.text(max_size=5) | st.sampled_from(["letterbox", "exp", "sqrt", "1.0", "1.0.0", "٣.0", "a/b"])
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    )


def test_level_geometry() -> None:
    spec = replace(SMALL_SPEC, input_hw=(192, 320), strides=(8, 16, 32, 64, 128))
    assert spec.level_names == ("p3", "p4", "p5", "p6", "p7")
    assert spec.level_hw == ((24, 40), (12, 20), (6, 10), (3, 5), (2, 3))
    assert spec.num_locations == 960 + 240 + 60 + 15 + 6
    assert spec.output_names[:4] == ("logits_p3", "ltrb_p3", "centerness_p3", "logits_p4")
    assert len(spec.output_names) == 15


def test_spec__is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        SMALL_SPEC.nms_iou = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", ""),
        ("name", "a/b"),  # would leave the bundle's folder
        ("name", "..\\b"),
        ("name", ".hidden"),
        ("name", "a\nb"),
        ("name", 5),
        ("classes", ()),
        ("classes", ("a", "a")),
        ("classes", ("a", "")),
        ("classes", "person"),  # a string is a sequence of names, too
        ("input_hw", (320,)),
        ("input_hw", (320, 300)),  # no multiple of 32
        ("input_hw", (0, 320)),
        ("input_hw", (-32, 320)),
        ("input_hw", (32, 1 << 15)),
        ("input_hw", (320.0, 320.0)),
        ("mean", (1.0, 2.0)),
        ("mean", (math.nan, 0.0, 0.0)),
        ("mean", (HUGE, 0, 0)),
        ("std", (1.0, 0.0, 1.0)),  # divides
        ("std", (1.0, -1.0, 1.0)),
        ("std", (math.inf, 1.0, 1.0)),
        ("resize", "crop"),
        ("pad_color_rgb", (256, 0, 0)),
        ("pad_color_rgb", (0.5, 0, 0)),
        ("pad_position", "center"),  # the other spelling
        ("interpolation", "lanczos"),
        ("strides", ()),
        ("strides", (8, 8)),
        ("strides", (16, 8)),
        ("strides", (8, 24)),
        ("strides", (0, 8)),
        ("strides", (8, 2048)),
        ("strides", (True, 8)),
        ("location_offset", 1.5),
        ("location_offset", -0.5),
        ("location_offset", HUGE),
        ("distance", "softplus"),
        ("distance_unit", "cell"),
        ("score", "max"),
        ("threshold_on", "box"),
        ("candidate_threshold", 0.0),
        ("candidate_threshold", 1.0),
        ("candidate_threshold", math.nan),
        ("candidate_threshold", True),
        ("candidate_threshold", HUGE),
        ("nms_iou", 1.5),
        ("nms_iou", "0.5"),
        ("nms_per_class", 1),
        ("pre_nms_topk_per_level", 0),
        ("pre_nms_topk_per_level", 2.0),
        ("max_detections", -1),
        ("max_detections", HUGE),
        ("provenance", []),
        ("provenance", {"ap": math.nan}),
        ("provenance", {"object": object()}),
    ],
)
def test_spec__refuses(key: str, value: Any) -> None:
    with pytest.raises(SpecError, match=f"^spec: {key} ") as caught:
        replace(SMALL_SPEC, **{key: value})
    assert "\n" not in str(caught.value)


@given(data=st.data())
@settings(deadline=None)  # machines are shared
def test_to_dict__from_dict_gives_it_back(data: st.DataObject) -> None:
    spec = replace(
        SMALL_SPEC,
        classes=tuple(
            data.draw(st.lists(st.sampled_from(["a", "Straße", '"', "東京"]), min_size=1, unique=True))
        ),
        mean=data.draw(st.tuples(*[st.floats(-1e6, 1e6)] * 3)),
        std=data.draw(st.tuples(*[st.floats(1e-6, 1e6)] * 3)),
        candidate_threshold=data.draw(st.floats(0, 1, exclude_min=True, exclude_max=True)),
        location_offset=data.draw(st.floats(0, 1) | st.integers(0, 1)),
        provenance=data.draw(
            st.dictionaries(st.text(max_size=3), st.lists(st.integers() | st.text(max_size=3)))
        ),
    )
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("key", [*KEYS, "version"])
def test_from_dict__a_missing_key_is_an_error(key: str) -> None:
    document = {name: value for name, value in DOCUMENT.items() if name != key}
    with pytest.raises(SpecError, match=key):
        ModelSpec.from_dict(document)


def test_from_dict__an_unknown_key_is_a_convention_that_we_do_not_follow() -> None:
    with pytest.raises(SpecError, match="unknown key 'soft_nms'; install"):
        ModelSpec.from_dict({**DOCUMENT, "soft_nms": True})


@pytest.mark.parametrize(
    ("version", "is_read"),
    [("1.0", True), ("1.7", True), ("2.0", False), ("0.9", False), ("1", False), (1.0, False), (None, False),
     ("1.0.0", False), ("-1.0", False), ("1.999999", False), ("\u0661.0", False)],
)  # fmt: skip
def test_from_dict__version(version: Any, is_read: bool) -> None:
    document = {**DOCUMENT, "version": version}
    if is_read:
        assert ModelSpec.from_dict(document) == SMALL_SPEC
    else:
        with pytest.raises(SpecError, match="version"):
            ModelSpec.from_dict(document)


@given(document=json_values())
@example(document=None)
@settings(deadline=None)
def test_from_dict__of_anything_raises_spec_error(document: Any) -> None:
    with pytest.raises(SpecError):
        ModelSpec.from_dict(document)


@given(key=st.sampled_from([*KEYS, "version"]), value=json_values())
@settings(deadline=None, max_examples=500)
def test_from_dict__with_one_key_spoilt_gives_a_spec_or_spec_error(key: str, value: Any) -> None:
    try:
        spec = ModelSpec.from_dict({**DOCUMENT, key: value})
    except SpecError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    # What was accepted can be used and written.
    assert spec.num_locations > 0
    assert ModelSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 0.9, 1.2])
def test_from_dict__deep_values_do_not_exhaust_the_stack(key: str, share: float) -> None:
    deep = nested(int(share * sys.getrecursionlimit()))
    value = {"deep": deep} if key == "provenance" else deep
    try:
        spec = ModelSpec.from_dict({**DOCUMENT, key: value})
    except SpecError:
        return
    spec.to_dict()
