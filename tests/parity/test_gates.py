"""Every gate: figures beside limits that they keep, and just do not keep."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fcos_edge.comparison import Check
from fcos_edge.detections import Detections
from fcos_edge.parity.agreement import Agreement, Asked, BothWays, compare_detections
from fcos_edge.parity.gates import (
    GATES,
    Gate,
    accuracy_gates,
    agreement_gates,
    conventions_gate,
    fact_gate,
    floors_gate,
    latency_gates,
    raw_gate,
)
from fcos_edge.parity.limits import Limits
from fcos_edge.parity.raw_differences import OutputDifference, WorstChannel

LIMITS = Limits()
INT8 = LIMITS.int8
GOOD = OutputDifference(
    name="logits_p3", count=1000, mean=0.0, mean_abs=0.1, max_abs=0.5, reference_max=8.0, spread=1.0,
    relative=0.1, correlation=0.99, worst_shift=WorstChannel(0, 0.05), worst_difference=WorstChannel(0, 0.1),
    is_flat=False, has_nan=False,
)  # fmt: skip
_NOTHING = compare_detections([Detections.empty()], [Detections.empty()], (0.5, 0.5), (0.5, 0.5))
NAN = float("nan")


def raw(precision: str = "int8", noise: OutputDifference | None = None, **changes: Any) -> Gate:
    figure = replace(GOOD, **changes)
    (gate,) = raw_gate([figure], [noise] if noise else [], precision, LIMITS)
    return gate


@pytest.mark.parametrize(("changes", "passed"), [
    ({}, True),
    ({"relative": INT8.output.relative}, True),  # a limit may be reached
    ({"relative": INT8.output.relative + 1e-6}, False),
    ({"name": "logits", "relative": INT8.output.relative}, False),  # all levels together: nearer
    ({"worst_shift": WorstChannel(1, INT8.output.shift + 1e-6)}, False),
    ({"worst_shift": WorstChannel(1, -INT8.output.shift - 1e-6)}, False),  # to either side
    ({"worst_difference": WorstChannel(1, INT8.output.difference + 1e-6)}, False),
    ({"correlation": INT8.output.correlation}, True),
    ({"correlation": INT8.output.correlation - 1e-6}, False),
    ({"correlation": 0.0, "is_flat": True}, True),  # what hardly varies correlates with nothing
    ({"correlation": -1.0}, False),  # the other way round
    ({"correlation": 1 + 1e-9, "relative": 0.0}, True),  # rounding: no fault, and no NaN
    ({"relative": math.inf}, False),
    ({"correlation": NAN}, False),
    ({"has_nan": True}, False),
    ({"has_nan": True, "relative": NAN, "correlation": NAN, "worst_shift": WorstChannel(0, NAN)}, False),
])  # fmt: skip
def test_raw__one_output(changes: dict[str, Any], passed: bool) -> None:
    gate = raw(**changes)
    assert (gate.name, gate.passed, gate.is_judged) == ("raw_outputs", passed, True)


def test_raw__the_figure_that_strains_its_limit_most_is_shown() -> None:
    figures = [GOOD, replace(GOOD, name="ltrb_p5", worst_shift=WorstChannel(2, -0.2)), replace(GOOD)]
    (gate,) = raw_gate(figures, [], "int8", LIMITS)
    assert gate.check.description == (
        "ltrb_p5: shift of channel 2 in its standard deviations is 0.2, allowed at most 0.25"
    )
    assert gate.passed
    assert not list(raw_gate([], [], "int8", LIMITS))  # its outputs have other shapes: conventions say so


def test_raw__float_is_judged_more_strictly() -> None:
    assert not raw("fp16").passed
    assert raw("fp16", relative=0.04, correlation=0.999, worst_difference=WorstChannel(0, 0.05),
               worst_shift=WorstChannel(0, 0.04)).passed  # fmt: skip
    assert not raw("fp32", relative=0.002, correlation=1.0, worst_difference=WorstChannel(0, 0),
                   worst_shift=WorstChannel(0, 0)).passed  # fmt: skip


def test_raw__int8_may_do_what_input_noise_does() -> None:
    noise = replace(GOOD, relative=0.5, correlation=0.8, worst_shift=WorstChannel(3, -0.4))
    changes: dict[str, Any] = {"relative": 0.5, "correlation": 0.8, "worst_shift": WorstChannel(0, 0.4)}
    assert raw(noise=noise, **changes).passed
    assert not raw(**changes).passed
    assert not raw("fp16", noise=noise, **changes).passed
    assert not raw(noise=replace(noise, name="ltrb"), **changes).passed  # of the same output
    assert not raw(noise=replace(noise, is_flat=True), correlation=0.8).passed  # its correlation says nothing


def test_raw__a_wider_factor_widens_the_part_that_is_lost() -> None:
    (gate,) = raw_gate([replace(GOOD, correlation=0.8)], [], "int8", replace(LIMITS, agreement_factor=2))
    assert gate.passed
    assert gate.check.limit == pytest.approx(0.8)  # 1 - 2 * 0.1


def agreement(
    asked: int = 100, lost: int = 0, found: int | None = None, pairs: int | None = None,
    drift: float | None = 0.0, drifts: tuple[tuple[int, float | None], ...] = ((0, None), (0, None)),
) -> Agreement:  # fmt: skip
    """lost: of the reference's; drifts: of each class its pairs and their mean drift"""
    found = asked if found is None else found
    sides = BothWays(Asked(asked, asked - lost), Asked(found, found))
    classes = tuple(
        replace(one, pairs=count, mean_drift=mean)
        for one, (count, mean) in zip(_NOTHING.classes, drifts, strict=True)
    )
    return replace(
        _NOTHING, detections=sides, pairs=asked - lost if pairs is None else pairs,
        drift=replace(_NOTHING.drift, mean=drift), classes=classes,
    )  # fmt: skip


def judged(
    one: Agreement, noise: Agreement | None = None, precision: str = "int8", limits: Limits = LIMITS
) -> dict[str, Gate]:
    return {gate.name: gate for gate in agreement_gates(one, noise, ("cat", "dog"), precision, limits)}


@pytest.mark.parametrize(("one", "passed"), [
    (agreement(0), True),  # nothing to find, nothing found
    (agreement(3, lost=3), True),  # three are chance, however few there are
    (agreement(4, lost=4), False),
    (agreement(10, lost=3), True),
    (agreement(10, lost=4), False),
    (agreement(1000, lost=140), True),  # 0.93 of both sides' 2000
    (agreement(1000, lost=141), False),
])  # fmt: skip
def test_matched__counts(one: Agreement, passed: bool) -> None:
    assert judged(one)["matched"].passed == passed


def test_matched__below_the_noise_of_int8_alone() -> None:
    noise = agreement(1000, lost=200)  # 0.9 of its own have a partner: 0.87 will do
    assert judged(agreement(1000, lost=260), noise)["matched"].passed
    assert not judged(agreement(1000, lost=261), noise)["matched"].passed
    assert not judged(agreement(1000, lost=100), noise, "fp16")["matched"].passed
    assert judged(agreement(1000, lost=140), agreement(0))["matched"].passed  # a noise that found nothing


@pytest.mark.parametrize(("asked", "found", "passed", "is_judged"), [
    (100, 133, True, True),
    (100, 134, False, True),
    (134, 100, False, True),  # to either side
    (0, 50, False, True),  # all made up
    (50, 0, False, True),  # all lost
    (10, 49, True, False),
])  # fmt: skip
def test_count__of_both_sides(asked: int, found: int, passed: bool, is_judged: bool) -> None:
    gate = judged(agreement(asked, found=found))["count"]
    assert (gate.passed, gate.is_judged) == (passed, is_judged)


def test_drift__of_all_and_of_each_class() -> None:
    assert judged(agreement(drift=0.02))["drift"].passed
    gate = judged(agreement(drift=-0.021))["drift"]
    assert (gate.passed, gate.check.what) == (False, "detections")
    gate = judged(agreement(drift=0.0, drifts=((30, -0.05), (70, 0.02))))["drift"]
    assert (gate.passed, gate.check.what) == (False, "cat")
    # A class of few partners says nothing, and neither do few in all.
    assert judged(agreement(drift=0.0, drifts=((29, -0.05), (71, 0.02))))["drift"].passed
    gate = judged(agreement(10, drift=0.5))["drift"]
    assert (gate.passed, gate.is_judged, gate.why) == (True, False, "10 partners are too few")
    assert not judged(agreement(drift=None))["drift"].is_judged


@pytest.mark.parametrize(("floors", "passed"), [(0.0, True), (4.0, True), (4.1, False), (NAN, False)])
def test_floors(floors: float, passed: bool) -> None:
    (gate,) = floors_gate(floors, "other.onnx in onnxruntime", LIMITS)
    assert gate.passed == passed
    assert not list(floors_gate(None, "", LIMITS))


def accuracy(
    drops: dict[str, float], boxes: dict[str, int], misses: dict[str, float] | None = None,
    limits: Limits = LIMITS,
) -> dict[str, Gate]:  # fmt: skip
    gates = accuracy_gates(drops, drops if misses is None else misses, boxes, limits)
    return {gate.name: gate for gate in gates}


@pytest.mark.parametrize(("drops", "boxes", "failed"), [
    ({"cat": 0.015}, {"cat": 200}, []),
    ({"cat": 0.016}, {"cat": 200}, ["ap_drop"]),
    ({"cat": -0.5}, {"cat": 200}, []),  # better is no fault
    # The limit grows with 1 / sqrt(boxes) below 200: 3 points of 50 boxes, 1.5 of 200 and more.
    ({"cat": 0.0299}, {"cat": 50}, []),
    ({"cat": 0.0301}, {"cat": 50}, ["ap_drop"]),
    ({"cat": 0.0151, "dog": 0.0151}, {"cat": 5000, "dog": 5000}, ["ap_drop"]),
    # Weighted by boxes: a rare class moves little.
    ({"cat": 0.5, "dog": 0.0}, {"cat": 2, "dog": 198}, []),
    ({"cat": 0.03, "dog": -0.03}, {"cat": 300, "dog": 300}, ["class_drop"]),  # one class is ruined
    ({"cat": 0.03, "dog": -0.03}, {"cat": 199, "dog": 300}, []),  # too small to be judged alone
    ({"cat": NAN}, {"cat": 500}, ["ap_drop", "class_drop", "miss_increase"]),
    ({"cat": 0.0, "dog": NAN}, {"cat": 500, "dog": 500}, ["ap_drop", "class_drop", "miss_increase"]),
    ({"dog": NAN, "cat": 0.0}, {"cat": 500, "dog": 500}, ["ap_drop", "class_drop", "miss_increase"]),
])  # fmt: skip
def test_accuracy__drops(drops: dict[str, float], boxes: dict[str, int], failed: list[str]) -> None:
    misses = {name: drop if math.isnan(drop) else 0.0 for name, drop in drops.items()}
    gates = accuracy(drops, boxes, misses)
    assert list(gates) == ["ap_drop", "class_drop", "miss_increase"]
    assert [name for name, gate in gates.items() if not gate.passed] == failed


def test_accuracy__the_worst_class_is_named_and_small_ones_are_only_reported() -> None:
    gate = accuracy({"cat": 0.01, "dog": 0.05}, {"cat": 300, "dog": 300})["class_drop"]
    assert gate.check.description.startswith("dog: points of AP lost against the reference is 5, allowed at")
    gate = accuracy({"cat": 0.01, "dog": 0.5}, {"cat": 30, "dog": 30})["class_drop"]
    assert (gate.passed, gate.check.what, gate.why) == (True, "dog", "no class has 200 boxes")
    gates = accuracy({"cat": 0.0}, {"cat": 300}, {"cat": 0.031})
    assert [gate.passed for gate in gates.values()] == [True, True, False]
    assert list(accuracy({"cat": 0.0}, {"cat": 300}, {})) == ["ap_drop", "class_drop"]  # no miss rate there
    assert accuracy({}, {}) == {}


def test_accuracy__limits_can_be_set_to_nothing_and_to_much() -> None:
    drops, boxes = {"cat": 1e-6}, {"cat": 300}
    strict = replace(LIMITS, max_ap_drop=0, max_class_drop=0, max_miss_increase=0)
    assert not any(gate.passed for gate in accuracy(drops, boxes, limits=strict).values())
    assert all(gate.passed for gate in accuracy({"cat": 0.0}, boxes, limits=strict).values())
    wide = replace(LIMITS, max_ap_drop=50, max_class_drop=50, max_miss_increase=50, least_boxes=10)
    gates = accuracy({"cat": 0.5}, {"cat": 10}, limits=wide)
    assert all(gate.passed and gate.is_judged for gate in gates.values())


@pytest.mark.parametrize(("ratio", "whole_ms", "limit_ms", "failed"), [
    (1.5, 50.0, None, []),
    (1.51, 50.0, None, ["latency_ratio"]),
    (0.5, 50.0, 50.0, []),
    (0.5, 50.1, 50.0, ["latency_ms"]),
    (None, None, 50.0, []),
    (NAN, NAN, 50.0, ["latency_ratio", "latency_ms"]),
])  # fmt: skip
def test_latency(
    ratio: float | None, whole_ms: float | None, limit_ms: float | None, failed: list[str]
) -> None:
    gates = latency_gates(ratio, whole_ms, replace(LIMITS, max_latency_ms=limit_ms))
    assert [gate.name for gate in gates if not gate.passed] == failed


def test_conventions__two_are_said_and_the_others_counted() -> None:
    assert conventions_gate([]).passed
    words = [
        "nms_iou is 0.7, the reference's is 0.6",
        "score is 'class', ...",
        "resize is ...",
        "name is ...",
    ]
    gate = conventions_gate(words)
    assert not gate.passed
    assert gate.check.description == f"conventions: {words[0]}; {words[1]}, and 2 more"


def test_gate__a_fact_and_its_json() -> None:
    well, ill = fact_gate("runs", "artifact", ""), fact_gate("runs", "artifact", "crashed with SIGSEGV")
    assert (well.passed, ill.passed) == (True, False)
    assert ill.check.description == "artifact: crashed with SIGSEGV"
    unjudged = Gate("drift", Check("detections", "figure", NAN, 0.1), why="too few")
    assert unjudged.passed  # not judged is not failed
    gates = [well, ill, unjudged, raw(relative=math.inf), raw(correlation=np.nan, has_nan=True)]
    for gate in gates:
        values = gate.to_dict()
        assert json.loads(json.dumps(values, allow_nan=False)) == values
        assert values["passed"] == gate.passed
        assert values["name"] in GATES
