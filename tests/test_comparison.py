"""Every check of `verify`: what it lets pass, and the planted fault that it names."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fcos_edge.artifact import ArtifactInfo, OutputInfo, Precision
from fcos_edge.budgets import BUDGETS, Int8Budget
from fcos_edge.comparison import Check, Comparison, Run
from fcos_edge.detections import Detections
from fcos_edge.golden import Golden
from fcos_edge.runtime import FloatArray
from tests.runtimes.models import SPEC, THRESHOLDS
from tests.small_golden import POINTS, dequantized, detect, small_golden

GOLDEN = small_golden()
Outputs = dict[str, FloatArray]
OutputFault = Callable[[Outputs], None]


def info(precision: Precision) -> ArtifactInfo:
    outputs = tuple(map(OutputInfo, SPEC.output_names))
    return ArtifactInfo("onnx", precision, outputs, THRESHOLDS)


def perfect_outputs(precision: Precision) -> list[Outputs]:
    """Of every picture: PyTorch's for a float artifact, the simulator's for int8."""
    if precision == "int8":
        return [dequantized(picture) for picture in GOLDEN.pictures]
    return [{name: value.copy() for name, value in picture.fp32.items()} for picture in GOLDEN.pictures]


def compare(
    precision: Precision,
    output_fault: OutputFault | None = None,
    detection_fault: Callable[[Detections], Detections] | None = None,
    *,
    letterbox_difference: int = 0,
    is_exact: bool = False,
    golden: Golden = GOLDEN,
) -> tuple[Check, ...]:
    """The checks of a run whose last picture has a fault in its outputs, or in its detections only."""
    comparison = Comparison(info(precision), golden, BUDGETS, is_exact)
    for index, (picture, outputs) in enumerate(zip(golden.pictures, perfect_outputs(precision), strict=True)):
        is_last = index == len(golden.pictures) - 1
        if is_last and output_fault is not None:
            output_fault(outputs)
        detections = detect(outputs)
        if is_last and detection_fault is not None:
            detections = detection_fault(detections)
        comparison.add(picture, Run(letterbox_difference if is_last else 0, outputs, detections))
    return comparison.checks()


def failures(checks: tuple[Check, ...]) -> list[str]:
    return [check.description for check in checks if not check.passed]


# Faults in the raw outputs -----------------------------------------------------------------------------


def scale(name: str, factor: float) -> OutputFault:
    def plant(outputs: Outputs) -> None:
        outputs[name] = outputs[name] * np.float32(factor)

    return plant


def shift_channel(name: str, channel: int, steps: float) -> OutputFault:
    """One class or side of an output some steps up, in one of two pictures: half of it on average."""

    def plant(outputs: Outputs) -> None:
        outputs[name][:, :, channel] += np.float32(steps * POINTS[name][0])

    return plant


def exchange(first: str, second: str) -> OutputFault:
    def plant(outputs: Outputs) -> None:
        outputs[first], outputs[second] = outputs[second], outputs[first]

    return plant


def exchange_left_and_top(outputs: Outputs) -> None:
    for name in outputs:
        if name.startswith("ltrb"):
            outputs[name] = outputs[name][:, :, [1, 0, 2, 3]]


def negate_centerness(outputs: Outputs) -> None:
    for name in outputs:
        if name.startswith("centerness"):
            outputs[name] = -outputs[name]


def make_constant(outputs: Outputs) -> None:
    """As where every integer of an output saturates."""
    for name in outputs:
        if name.startswith("logits"):
            outputs[name] = np.full_like(outputs[name], -7)


def one_step(name: str) -> OutputFault:
    def plant(outputs: Outputs) -> None:
        outputs[name][0, 0, 0] += np.float32(POINTS[name][0])

    return plant


def steps_of_logits(part: float, steps: int = 1) -> OutputFault:
    """The first `part` of a picture's logits some steps up; a check of two pictures sees half of it."""

    def plant(outputs: Outputs) -> None:
        for name in outputs:
            if name.startswith("logits"):
                values = outputs[name].reshape(-1)
                values[: int(part * values.size)] += np.float32(steps * POINTS[name][0])

    return plant


def put(name: str, value: float) -> OutputFault:
    def plant(outputs: Outputs) -> None:
        outputs[name][-1, -1, 0] = value

    return plant


# Faults in the detections alone ------------------------------------------------------------------------


def rebuilt(detections: Detections, order: Any = None, **changes: Any) -> Detections:
    values = {**vars(detections), **changes}
    return Detections(*(values[name][slice(None) if order is None else order] for name in
                        ("boxes_xyxy", "scores", "labels")))  # fmt: skip


def lose(count: int) -> Callable[[Detections], Detections]:
    return lambda detections: rebuilt(detections, slice(count, None))


def lose_the_one_within_the_margin(detections: Detections) -> Detections:
    return rebuilt(detections, slice(0, -1))


def find_one_twice(detections: Detections) -> Detections:
    return rebuilt(detections, [0, *range(len(detections))])


def find_thrice_each(detections: Detections) -> Detections:
    return rebuilt(detections, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3])


OF_BOTH_SIDES = "detections: part of {} detections, PyTorch's and its, that have a partner"


def shift(pixels: float) -> Callable[[Detections], Detections]:
    """The best box moves to the right; boxes are 18 to 28 pixels wide."""

    def change(detections: Detections) -> Detections:
        boxes = detections.boxes_xyxy.copy()
        boxes[0, [0, 2]] += pixels
        return rebuilt(detections, boxes_xyxy=boxes)

    return change


def rescore(factor: float) -> Callable[[Detections], Detections]:
    return lambda found: rebuilt(found, scores=found.scores * np.float32(factor))


def relabel(detections: Detections) -> Detections:
    return rebuilt(detections, labels=(detections.labels + 1) % len(SPEC.classes))


@pytest.mark.parametrize(
    ("precision", "is_exact"),
    [("fp32", False), ("fp16", False), ("w8", False), ("int8", True), ("int8", False)],
)
def test_checks__perfect_run_passes(precision: Precision, is_exact: bool) -> None:
    checks = compare(precision, is_exact=is_exact)
    assert failures(checks) == []
    about = {check.what for check in checks}
    assert {"first.png", "second.png"} <= about  # the letterbox, in every precision
    assert ({"ltrb", "detections"} if precision in ("int8", "w8") else set(SPEC.output_names)) <= about
    assert any("in steps" in check.figure for check in checks) == is_exact


@pytest.mark.parametrize(
    ("precision", "options", "fault", "first_failure"),
    [
        # A float artifact: each output against PyTorch
        ("fp32", {}, scale("logits_p4", 1.002), "logits_p4: largest difference to PyTorch"),
        ("fp32", {}, scale("centerness_p3", 1.002), "centerness_p3: largest difference to PyTorch"),
        ("fp16", {}, scale("ltrb_p3", 1.05), "ltrb_p3: largest difference to PyTorch"),
        ("fp32", {}, exchange("logits_p3", "ltrb_p3"), "logits_p3: largest difference to PyTorch"),
        ("fp16", {}, exchange("logits_p4", "ltrb_p4"), "logits_p4: largest difference to PyTorch"),
        ("fp16", {}, exchange_left_and_top, "ltrb_p3: largest difference to PyTorch"),
        # An exact runtime: a single step of a single value
        *(("int8", {"is_exact": True}, one_step(name),
           f"{name}: largest difference to the simulator in steps on second.png is 1, allowed at most 0")
          for name in SPEC.output_names),
        # Another runtime: by the mean of the logits
        ("int8", {}, steps_of_logits(0.625, 2),
         "logits: mean difference to the simulator in one-bit floors is 2.5, allowed at most 2"),
        ("w8", {}, exchange("logits_p3", "ltrb_p3"), "logits: mean difference to PyTorch"),
        ("w8", {}, negate_centerness, "centerness: mean difference to PyTorch"),
        ("int8", {}, scale("logits_p3", 1.2), "logits: mean difference to the simulator"),
        ("int8", {}, exchange("logits_p3", "ltrb_p3"), "logits: mean difference to the simulator"),
        # of every branch,
        ("int8", {}, scale("ltrb_p3", 2), "ltrb: mean difference to the simulator"),
        ("int8", {}, exchange_left_and_top, "ltrb: mean difference to the simulator"),
        ("int8", {}, negate_centerness, "centerness: mean difference to the simulator"),
        # of every output, and of one of its channels
        ("int8", {}, shift_channel("centerness_p4", 0, 3), "centerness_p4: mean difference to the simulator"),
        ("int8", {}, shift_channel("logits_p3", 1, 2),
         "logits_p3: mean shift of bee to the simulator in one-bit floors is 4, allowed at most 2.3"),
        ("int8", {}, shift_channel("ltrb_p3", 3, -2),
         "ltrb_p3: mean shift of bottom to the simulator in one-bit floors is 4, allowed at most 2.3"),
        ("fp16", {}, shift_channel("ltrb_p3", 2, 1), "ltrb_p3: mean shift of right to PyTorch"),
        ("int8", {}, make_constant, "logits: mean difference to the simulator"),
    ],
)  # fmt: skip
def test_checks__fault_in_an_output_is_named(
    precision: Precision, options: Any, fault: OutputFault, first_failure: str
) -> None:
    found = failures(compare(precision, fault, **options))
    assert found[0].startswith(first_failure), found


@pytest.mark.parametrize(
    ("precision", "options", "fault"),
    [
        ("fp32", {}, scale("logits_p4", 1.0009)),  # float sums in another order
        ("fp16", {}, scale("ltrb_p3", 1.015)),
        ("int8", {}, one_step("ltrb_p3")),  # not exact: a step is nothing
        ("int8", {}, shift_channel("logits_p3", 1, 1)),  # 2 floors, of one class
        ("int8", {}, steps_of_logits(0.25)),  # an eighth of a step, half a least floor
        ("int8", {}, steps_of_logits(0.75)),  # 1.5 floors
    ],
)
def test_checks__difference_within_the_budget_passes(
    precision: Precision, options: Any, fault: OutputFault
) -> None:
    assert failures(compare(precision, fault, **options)) == []


@pytest.mark.parametrize(("change", "is_named"), [(0.25, False), (20.0, True)])
def test_checks__output_that_stays_float__is_compared_as_it_is(change: float, is_named: bool) -> None:
    """Its budget is in steps that it would have."""
    name = "ltrb_p3"
    pictures = tuple(
        replace(picture, int8={**picture.int8, name: dequantized(picture)[name]})
        for picture in GOLDEN.pictures
    )
    outputs = tuple(replace(o, zero_point=None) if o.name == name else o for o in GOLDEN.outputs)
    golden = replace(GOLDEN, pictures=pictures, outputs=outputs, is_integer=False)
    found = failures(compare("int8", shift_channel(name, 2, change), golden=golden))
    assert any(line.startswith(f"{name}: mean shift of right to the simulator") for line in found) == is_named


def test_checks__every_failure_of_a_constant_branch() -> None:
    found = failures(compare("int8", make_constant))
    figures = [line.split(" is ")[0] for line in found]
    assert [figure for figure in figures if "_p" not in figure] == [
        "logits: mean difference to the simulator in one-bit floors",
        "logits: mean difference to PyTorch / its standard deviation",
        "logits: correlation with PyTorch",
        "detections: part of 9 detections, PyTorch's and its, that have a partner",
    ]
    # And each level's output, the classes together and one by one.
    assert {figure.split(":")[0] for figure in figures if "_p" in figure} == {
        f"logits_{level}" for level in SPEC.level_names
    }


@pytest.mark.parametrize(("steps", "is_near"), [(0, True), (1, False)])
def test_checks__branch_that_varies_less_than_a_step(steps: int, is_near: bool) -> None:
    """As the distances of a network that is not trained: there is nothing to correlate with."""
    generator = np.random.default_rng(0)

    def flat(values: FloatArray) -> FloatArray:
        return np.asarray(2 + generator.normal(0, 1e-7, values.shape), np.float32)

    pictures = tuple(
        replace(picture, fp32={name: flat(value) if name.startswith("ltrb") else value
                               for name, value in picture.fp32.items()})
        for picture in GOLDEN.pictures
    )  # fmt: skip

    def found(outputs: Outputs) -> None:
        for name in outputs:
            if name.startswith("ltrb"):
                outputs[name] = np.full_like(outputs[name], 2 + steps * POINTS[name][0])

    comparison = Comparison(info("int8"), replace(GOLDEN, pictures=pictures), BUDGETS, is_exact=False)
    for picture, outputs in zip(pictures, perfect_outputs("int8"), strict=True):
        found(outputs)
        comparison.add(picture, Run(0, outputs, detect(outputs)))
    of_ltrb = [check for check in comparison.checks() if check.what == "ltrb" and "PyTorch" in check.figure]
    assert [check.passed for check in of_ltrb] == [is_near]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", SPEC.output_names)
@pytest.mark.parametrize(
    ("precision", "is_exact"), [("fp32", False), ("fp16", False), ("int8", False), ("int8", True)]
)
def test_checks__one_value_that_is_no_number_fails(
    precision: Precision, is_exact: bool, name: str, value: float
) -> None:
    assert failures(compare(precision, put(name, value), is_exact=is_exact))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_checks__nothing_equals_a_reference_that_is_no_number(precision: Precision, value: float) -> None:
    pictures = tuple(
        replace(picture, fp32={**picture.fp32, "ltrb_p4": np.full_like(picture.fp32["ltrb_p4"], value)})
        for picture in GOLDEN.pictures
    )
    # The same in the artifact: infinity - infinity is no agreement.
    checks = compare(precision, put("ltrb_p4", value), golden=replace(GOLDEN, pictures=pictures))
    assert failures(checks)


@pytest.mark.parametrize(
    ("floor", "passes"),
    [
        (0.0, False),  # a quarter of a step counts as the floor
        (1 / 64, False),  # a quarter of a step, 1/16
        (2 / 64, True),
    ],
)
def test_checks__one_bit_floor_of_the_bundle_counts(floor: float, passes: bool) -> None:
    golden = replace(GOLDEN, one_bit_floors=dict.fromkeys(POINTS, floor))
    # 3/4 of a step of 4/64 on average; two floors are allowed
    found = failures(compare("int8", steps_of_logits(0.75, 2), golden=golden))
    assert any(line.startswith("logits: ") for line in found) != passes


@pytest.mark.parametrize(("is_integer", "passes"), [(True, False), (False, True)])
def test_checks__layers_that_stay_in_float_round_anew(is_integer: bool, passes: bool) -> None:
    golden = replace(GOLDEN, is_integer=is_integer)
    found = failures(compare("int8", steps_of_logits(0.625, 2), golden=golden))  # 2.5 floors
    assert any(line.startswith("logits: ") for line in found) != passes


@pytest.mark.parametrize(("recipe", "budget"), [
    ("w8t_a8t_mse", BUDGETS.int8),
    ("w8t_a8t_mse_qat", replace(BUDGETS.int8, correlation=0.9)),
    ("", BUDGETS.int8),
])  # fmt: skip
def test_budgets__weights_that_were_trained_as_integers_may_be_farther_from_float(
    recipe: str, budget: Int8Budget
) -> None:
    found = replace(info("int8"), recipe=recipe)
    assert BUDGETS.of_int8(is_integer=True, is_trained=found.is_trained_in_int8) == budget


@pytest.mark.parametrize(
    ("precision", "fault", "expected"),
    [
        ("fp32", lose(1), ["second.png: number of PyTorch's 3 detections without a partner is 1"]),
        ("fp16", lose(2), ["second.png: number of PyTorch's 3 detections without a partner is 2"]),
        ("fp32", find_one_twice, ["second.png: number of its 4 detections without a partner is 1"]),
        ("fp32", shift(1), ["second.png: number of PyTorch's 3 ", "second.png: number of its 3 "]),
        ("fp16", shift(3), ["second.png: number of PyTorch's 3 ", "second.png: number of its 3 "]),
        ("fp32", rescore(0.99), ["second.png: number of PyTorch's 3 ", "second.png: number of its 3 "]),
        ("fp16", rescore(0.96), ["second.png: number of PyTorch's 3 ", "second.png: number of its 3 "]),
        ("fp32", relabel, ["second.png: number of PyTorch's 3 ", "second.png: number of its 3 "]),
        # Of six on each side, one may be lost (10/11 is more than 0.8), not three.
        ("int8", lose(3), [f"{OF_BOTH_SIDES.format(9)} is 0.6667"]),
        ("int8", rescore(0.4), [f"{OF_BOTH_SIDES.format(9)} is 0.6667"]),
        ("int8", relabel, [f"{OF_BOTH_SIDES.format(12)} is 0.5"]),
        # Nor found three that are not there.
        ("int8", find_thrice_each, [f"{OF_BOTH_SIDES.format(18)} is 0.6667"]),
        # What passes
        ("fp32", lose_the_one_within_the_margin, []),
        ("fp32", shift(0.05), []),
        ("fp32", rescore(0.998), []),
        ("fp16", shift(0.5), []),
        ("fp16", rescore(0.98), []),
        ("int8", lose(1), []),
        ("int8", shift(3), []),
        ("int8", rescore(0.6), []),
        ("int8", find_one_twice, []),
    ],
)
def test_checks__fault_in_the_detections_is_named(
    precision: Precision, fault: Callable[[Detections], Detections], expected: list[str]
) -> None:
    found = failures(compare(precision, detection_fault=fault))
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_checks__no_detections_anywhere_pass(precision: Precision) -> None:
    pictures = tuple(
        replace(picture, candidates=Detections.empty(), operating=Detections.empty())
        for picture in GOLDEN.pictures
    )
    golden = replace(GOLDEN, pictures=pictures)
    comparison = Comparison(info(precision), golden, BUDGETS, is_exact=False)
    for picture, outputs in zip(pictures, perfect_outputs(precision), strict=True):
        comparison.add(picture, Run(0, outputs, Detections.empty()))
    assert failures(comparison.checks()) == []


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize(
    ("grey_levels", "expected"),
    [
        (1, []),  # another CPU family's resize
        (2, ["second.png: letterbox difference in grey levels is 2, allowed at most 1"]),
    ],
)
def test_checks__letterbox(precision: Precision, grey_levels: int, expected: list[str]) -> None:
    assert failures(compare(precision, letterbox_difference=grey_levels)) == expected


@pytest.mark.parametrize(
    ("value", "kind", "passed"),
    [
        (1.0, "at most", True),
        (1.001, "at most", False),
        (1.0, "at least", True),
        (0.999, "at least", False),
        (math.nan, "at most", False),
        (math.nan, "at least", False),
        (math.inf, "at most", False),
        (-math.inf, "at least", False),
    ],
)
def test_check__limit_itself_passes_and_nan_never(value: float, kind: Any, passed: bool) -> None:
    assert Check("logits", "figure", value, 1.0, kind).passed == passed


def test_check__description_and_dict() -> None:
    check = Check("logits_p3", "largest difference", 0.012345, 0.001)
    assert check.description == "logits_p3: largest difference is 0.01235, allowed at most 0.001"
    assert check.to_dict() == {
        "what": "logits_p3",
        "figure": "largest difference",
        "value": 0.012345,
        "limit": 0.001,
        "kind": "at most",
        "passed": False,
        "words": "",
        "description": check.description,
    }


def test_check__words_are_what_a_failure_says() -> None:
    check = Check("conventions", "number", 1, 0, words="nms_iou is 0.65, exported as 0.6")
    assert check.description == "conventions: nms_iou is 0.65, exported as 0.6"
    assert not check.passed


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_check__what_json_cannot_hold_becomes_null(value: float) -> None:
    check = Check("logits_p3", "largest difference", value, 1.0)
    assert json.loads(json.dumps(check.to_dict(), allow_nan=False))["value"] is None


def test_budgets__half_precision_may_differ_more_in_everything() -> None:
    fp32, fp16 = BUDGETS.fp32, BUDGETS.fp16
    assert fp16.max_difference > fp32.max_difference
    assert fp16.threshold_margin > fp32.threshold_margin
    assert fp16.iou < fp32.iou
    assert fp16.score > fp32.score


@pytest.mark.parametrize("budget", [BUDGETS.fp32, BUDGETS.fp16])
def test_budgets__what_must_have_a_partner_can_have_one(budget: Any) -> None:
    # A detection this far above its threshold is still above it after the largest allowed change of score.
    assert budget.score < budget.threshold_margin
