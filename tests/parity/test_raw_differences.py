"""Differences of raw outputs, against all values kept and compared at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from fcos_edge.parity.raw_differences import RANGE_FLOOR, SPREAD_FLOOR, OutputDifference, RawDifferences
from fcos_edge.runtime import FloatArray
from fcos_edge.spec import BRANCHES, ModelSpec

# Two levels of 2x4 and 1x2 locations.
SPEC = ModelSpec("small", ("a", "b", "c"), (32, 64), (0, 0, 0), (1, 1, 1), strides=(16, 32))
LEVELS = {"p4": slice(0, 8), "p5": slice(8, 10)}
CHANNELS = {"logits": 3, "ltrb": 4, "centerness": 1}
LOCATIONS = 10

Block = dict[str, FloatArray]


def random_block(seed: int, pictures: int = 2) -> Block:
    """Logits lie around -5, as they do; the other two around 0."""
    generator = np.random.default_rng(seed)
    return {
        branch: generator.normal(
            -5.0 if branch == "logits" else 0.0, 1.5, (pictures, LOCATIONS, count)
        ).astype(np.float32)
        for branch, count in CHANNELS.items()
    }


def noisy(block: Block, size: float = 0.1, seed: int = 9) -> Block:
    generator = np.random.default_rng(seed)
    return {
        branch: values + generator.normal(0, size, values.shape).astype(np.float32)
        for branch, values in block.items()
    }


def changed(block: Block, branch: str, part: tuple[object, ...], value: float) -> Block:
    """A copy with `value` at `part` of one branch."""
    values = block[branch].copy()
    values[part] = value
    return {**block, branch: values}


def measure(*pairs: tuple[Block, Block], spec: ModelSpec = SPEC) -> dict[str, OutputDifference]:
    differences = RawDifferences(spec)
    for reference, found in pairs:
        differences.add(reference, found)
    return {figure.name: figure for figure in differences.figures()}


def all_values(blocks: list[Block], spec: ModelSpec) -> dict[str, np.ndarray]:
    """Output or branch name -> (values, C) float64, after the activation of distances."""
    whole = {branch: np.concatenate([block[branch] for block in blocks]).astype(float) for branch in BRANCHES}
    if spec.distance == "relu":
        whole["ltrb"] = np.maximum(whole["ltrb"], 0)
    parts = {
        f"{branch}_{level}": whole[branch][:, where] for level, where in LEVELS.items() for branch in BRANCHES
    }
    return {name: values.reshape(-1, values.shape[-1]) for name, values in (parts | whole).items()}


@pytest.mark.parametrize("distance", ["relu", "exp"])
@pytest.mark.parametrize(
    "sizes",
    [(1,), (4,), (1, 1, 1), (3, 1, 2)],  # pictures per block: how they come changes nothing
)
def test_figures__equal_those_of_all_values(sizes: tuple[int, ...], distance: str) -> None:
    spec = replace(SPEC, distance=distance)  # type: ignore[arg-type]
    references = [random_block(seed, size) for seed, size in enumerate(sizes)]
    founds = [noisy(block, seed=seed) for seed, block in enumerate(references)]
    measured = measure(*zip(references, founds, strict=True), spec=spec)
    ours, theirs = all_values(references, spec), all_values(founds, spec)
    assert tuple(measured) == (*spec.output_names, *BRANCHES)
    for name, figure in measured.items():
        a, b = ours[name], theirs[name]
        assert figure.count == a.size
        assert figure.max_abs == np.abs(b - a).max()
        assert figure.reference_max == np.abs(a).max()
        branch = ours[name.split("_")[0]]
        floor = max(SPREAD_FLOOR * branch.std(), RANGE_FLOOR * np.abs(branch).max())
        units = np.maximum(a.std(axis=0), floor)
        shifts, sizes_of = (b - a).mean(axis=0) / units, np.abs(b - a).mean(axis=0) / units
        expected = {
            "mean": (b - a).mean(),
            "mean_abs": np.abs(b - a).mean(),
            "spread": a.std(),
            "relative": np.abs(b - a).mean() / max(a.std(), floor),
            "correlation": np.corrcoef(a.ravel(), b.ravel())[0, 1],
        }
        for key, value in expected.items():
            # Float64 sums in another order.
            assert getattr(figure, key) == pytest.approx(value, rel=1e-12, abs=1e-15), (name, key)
        assert figure.worst_shift.index == np.abs(shifts).argmax()
        assert figure.worst_shift.value == pytest.approx(shifts[figure.worst_shift.index], rel=1e-12)
        assert figure.worst_difference.index == sizes_of.argmax()
        assert figure.worst_difference.value == pytest.approx(sizes_of.max(), rel=1e-12)
        assert not figure.has_nan


def test_figures__of_the_same_outputs() -> None:
    block = random_block(0)
    for figure in measure((block, block)).values():
        assert (figure.mean, figure.mean_abs, figure.max_abs, figure.relative) == (0, 0, 0, 0)
        assert figure.correlation == pytest.approx(1, abs=1e-15)
        assert figure.worst_shift.value == figure.worst_difference.value == 0


def test_figures__correlation_far_from_zero() -> None:
    # Sums of squares around 0 would leave nothing of a spread of 1 around 1e6 after many blocks.
    generator = np.random.default_rng(0)
    differences = RawDifferences(SPEC)
    kept: list[tuple[FloatArray, FloatArray]] = []
    for _ in range(100):
        reference = random_block(int(generator.integers(1 << 30)), 1)
        reference = {**reference, "logits": reference["logits"] + np.float32(1e6)}
        found = {**reference, "logits": reference["logits"] + np.float32(0.125) * generator.integers(-1, 2)}
        differences.add(reference, found)
        kept.append((reference["logits"], found["logits"]))
    figure = next(figure for figure in differences.figures() if figure.name == "logits")
    a, b = (np.concatenate(side).astype(float).ravel() - 1e6 for side in zip(*kept, strict=True))
    assert figure.correlation == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)  # of 1e-6 that are promised


def test_figures__negative_distances_mean_0() -> None:
    reference, found = random_block(0), random_block(0)
    for block, value in ((reference, -1.0), (found, -7.0)):
        block["ltrb"] = np.where(block["ltrb"] < 0, np.float32(value), block["ltrb"])
    assert measure((reference, found))["ltrb"].max_abs == 0
    assert measure((reference, found), spec=replace(SPEC, distance="exp"))["ltrb"].max_abs == 6


@pytest.mark.parametrize(
    ("reference", "found", "correlation", "relative"),
    [
        (-5.0, -5.0, 1.0, 0.0),
        (-5.1, -5.1, 1.0, 0.0),  # no float32 of a round value: still no spread at all
        (-5.0, -4.0, 1.0, 1 / (5 * RANGE_FLOOR)),  # two constants: in parts of the range
        (0.0, 1.0, 1.0, np.inf),  # no range either
    ],
)
def test_figures__constants(reference: float, found: float, correlation: float, relative: float) -> None:
    blocks = [random_block(0), random_block(1, 3)]
    ours, theirs = (
        [{**block, "logits": np.full_like(block["logits"], value)} for block in blocks]
        for value in (reference, found)
    )
    figure = measure(*zip(ours, theirs, strict=True))["logits"]
    assert (figure.spread, figure.correlation, figure.relative) == (0, correlation, relative)
    assert figure.worst_shift.value == relative
    assert figure.is_flat == (reference != 0)  # of 0 below a floor of 0, nothing is said


def test_figures__a_constant_for_something_else() -> None:
    # The weights of a layer are all zero.
    blocks = [random_block(0), random_block(1)]
    pairs = [(block, {**block, "logits": np.full_like(block["logits"], -5.1)}) for block in blocks]
    assert measure(*pairs)["logits"].correlation == 0


def test_figures__bias_of_one_class_names_it() -> None:
    reference = random_block(0, 8)
    found = noisy(reference, 0.05)
    found["logits"][..., 1] -= 0.5
    figure = measure((reference, found))["logits"]
    assert figure.worst_shift.index == figure.worst_difference.index == 1
    assert figure.worst_shift.value == pytest.approx(-0.5 / 1.5, rel=0.1)  # the spread of 80 drawn values


def test_figures__channel_that_hardly_varies_is_measured_by_the_branch() -> None:
    # In spreads of its own, a class that is nowhere in the data would be 1000 off.
    reference = random_block(0, 8)
    reference["logits"][..., 2] = -5.0 + np.float32(1e-4) * reference["ltrb"][..., 0]
    found = {**reference, "logits": reference["logits"].copy()}
    found["logits"][..., 2] += 0.125
    figure = measure((reference, found))["logits"]
    assert figure.worst_shift.index == 2
    # One of three channels is nearly constant, and lies in the middle of the others.
    assert figure.worst_shift.value == pytest.approx(0.125 / (SPREAD_FLOOR * figure.spread), rel=1e-6)


def test_figures__hardly_trained_network_is_measured_by_its_range() -> None:
    # Logits of -4.6 everywhere, spread by 0.001; float16 rounds that to steps of 0.004.
    reference = random_block(0, 8)
    reference["logits"] = -4.6 + np.float32(1e-3) * reference["logits"]
    found = {**reference, "logits": reference["logits"].astype(np.float16).astype(np.float32)}
    figure = measure((reference, found))["logits"]
    assert figure.is_flat
    assert figure.mean_abs > figure.spread / 2
    assert figure.relative < 0.02


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_figures__not_finite_on_the_found_side(value: float) -> None:
    reference = random_block(0)
    found = changed(noisy(reference), "logits", (1, 9, 2), value)
    figures = measure((reference, found), (reference, noisy(reference)))
    assert {name for name, figure in figures.items() if figure.has_nan} == {"logits_p5", "logits"}
    document = json.loads(json.dumps(figures["logits"].to_dict(), allow_nan=False))
    assert document["has_nan"] is True
    assert document["mean_abs"] is document["correlation"] is document["worst_difference"]["value"] is None
    assert document["worst_difference"]["index"] == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_figures__not_finite_on_the_reference_side_is_left_out(value: float) -> None:
    whole = random_block(0)
    # The first value of a channel too: means are built from there.
    for where in ((0, 0, 1), (1, 9, 2)):
        reference = changed(whole, "logits", where, value)
        for other in (0.0, value):
            found = changed(noisy(whole), "logits", where, other)
            figure = measure((reference, found))["logits"]
            assert not figure.has_nan
            assert figure.count == whole["logits"].size - 1
            kept = np.isfinite(reference["logits"])
            a, b = (side["logits"][kept].astype(float) for side in (reference, found))
            assert figure.mean_abs == pytest.approx(np.abs(b - a).mean(), rel=1e-12)
            assert figure.spread == pytest.approx(a.std(), rel=1e-12)
            assert figure.correlation == pytest.approx(np.corrcoef(a, b)[0, 1], rel=1e-12)


def test_figures__a_whole_output_left_out() -> None:
    reference = changed(random_block(0), "centerness", (slice(None), LEVELS["p5"]), np.nan)
    figure = measure((reference, random_block(0)))["centerness_p5"]
    assert (figure.count, figure.mean_abs, figure.has_nan) == (0, 0, False)


def test_figures__infinite_distances() -> None:
    # Post-processing takes -inf for 0 and +inf for the border: only the second is not a distance.
    reference = random_block(0)
    for value, has_nan in ((-np.inf, False), (np.inf, True)):
        found = changed(reference, "ltrb", (0, 0, 0), value)
        assert measure((reference, found))["ltrb"].has_nan is has_nan


def test_figures__json() -> None:
    reference = random_block(0)
    figure = measure((reference, noisy(reference)))["ltrb_p4"]
    document = json.loads(json.dumps(figure.to_dict(), allow_nan=False))
    assert document["name"] == "ltrb_p4"
    assert document["worst_shift"] == {
        "index": figure.worst_shift.index, "value": figure.worst_shift.value,
    }  # fmt: skip
    assert document["mean_abs"] == figure.mean_abs


def test_add__arguments_stay_as_they_are() -> None:
    reference = random_block(0)
    found = changed(noisy(reference), "ltrb", (0, 0, 0), np.nan)
    copies = [{name: values.copy() for name, values in block.items()} for block in (reference, found)]
    measure((reference, found))
    for block, copy in zip((reference, found), copies, strict=True):
        for name, values in block.items():
            np.testing.assert_array_equal(values, copy[name])


def test_figures__of_nothing() -> None:
    differences = RawDifferences(SPEC)
    assert differences.figures() == ()
    differences.add(random_block(0, 0), random_block(0, 0))
    assert differences.figures() == ()


@pytest.mark.parametrize(
    ("branch", "shape"),
    [("logits", (2, LOCATIONS, 2)), ("ltrb", (2, LOCATIONS - 1, 4)), ("centerness", (3, LOCATIONS, 1))],
)
def test_add__another_shape(branch: str, shape: tuple[int, ...]) -> None:
    block = random_block(0)
    odd: Mapping[str, FloatArray] = {**block, branch: np.zeros(shape, np.float32)}
    for reference, found in ((block, odd), (odd, block)):
        with pytest.raises(ValueError, match=f"{branch}: found shape"):
            RawDifferences(SPEC).add(reference, found)
