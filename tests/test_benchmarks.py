"""Every benchmark, run for real on a tiny bundle: its figures mean nothing here, but it must not rot."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.free_data import write_free_data
from fcos_edge.image import read_image_bgr
from fcos_edge.threads import default_threads
from fcos_edge.train.checkpoint import load_checkpoint, save_checkpoint
from small_bundle import PRECISIONS, noise, small_checkpoint, write_bundle
from tests.coco_sets import CLASSES, make_coco_set

FORMATS = ("onnx", "openvino", "tflite")
RUNTIMES = ("onnxruntime", "openvino", "tflite")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco_set(tmp_path_factory.mktemp("shapes"), "val", 3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    save_checkpoint(path, small_checkpoint(CLASSES))
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(folder, load_checkpoint(checkpoint), noise(9))
    return folder


def _run(repo_root: Path, json_path: Path, script: str, *arguments: object) -> tuple[str, dict[str, Any]]:
    """What the benchmark prints, and its JSON."""
    command = [sys.executable, str(repo_root / "benchmarks" / f"{script}.py"), *map(str, arguments)]
    result = subprocess.run(
        [*command, "--json", str(json_path)],
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(json_path.read_text())
    assert document["benchmark"] == script
    assert {"date", "commit", "cpu", "vnni", "threads", "versions"} <= set(document["conditions"])
    for target in document["targets"]:
        assert target["what"] in result.stdout
    return result.stdout, document


def test_int8_agreement__counts_values_and_names_its_floor(
    repo_root: Path, bundle: Path, checkpoint: Path, shapes: Path, tmp_path: Path
) -> None:
    _, document = _run(
        repo_root, tmp_path / "x.json", "int8_agreement", bundle, "--checkpoint", checkpoint,
        "--data", shapes, "--pictures", 2,
    )  # fmt: skip
    figures = document["figures"]
    locations = 12 * 12 + 6 * 6 + 3 * 3 + 2 * 2 + 1
    assert figures["values"] == 2 * locations * (len(CLASSES) + 4 + 1)
    assert set(figures["unequal_values"]) == set(RUNTIMES)
    assert len(figures["one_bit_of_each_picture"]) == 2
    if document["conditions"]["vnni"]:
        assert figures["unequal_values"]["onnxruntime"] == figures["unequal_values"]["tflite"] == 0
        assert figures["mean_logit_difference"]["onnxruntime to tflite"] == 0
    noisy = figures["partners"]["onnxruntime fp32 and onnxruntime fp32, noise of +-1"]
    assert 0 < noisy["matched"] <= noisy["asked"]


def test_int8_accuracy__fp32_files_score_what_pytorch_does(
    repo_root: Path, bundle: Path, checkpoint: Path, shapes: Path, tmp_path: Path
) -> None:
    _, document = _run(
        repo_root, tmp_path / "x.json", "int8_accuracy", bundle, "--checkpoint", checkpoint,
        "--data", f"{shapes}:{CLASSES[1]}", "--flips", 2,
    )  # fmt: skip
    (of_set,) = document["figures"].values()
    runs = of_set["runs"]
    assert set(runs) == {"PyTorch fp32", *(f"{r} {p}" for r in RUNTIMES for p in PRECISIONS)}
    for runtime in RUNTIMES:
        assert runs[f"{runtime} fp32"]["figures"] == runs["PyTorch fp32"]["figures"]
    assert runs["onnxruntime int8"]["pictures"] == 3
    assert len(of_set["flipped"]) == 2
    # The share of each runtime, and how far they are apart; no class has boxes enough for misses.
    assert [target["limit"] for target in document["targets"]][:3] == [99.0] * 3
    assert len(document["targets"]) == 4


def test_int8_speed__has_a_ratio_for_each_runtime_and_round(
    repo_root: Path, bundle: Path, tmp_path: Path
) -> None:
    _, document = _run(
        repo_root, tmp_path / "x.json", "int8_speed", bundle, "--rounds", 2, "--calls", 3
    )  # fmt: skip
    assert set(document["figures"]) == set(RUNTIMES)
    assert all(len(figures["ratios"]) == 2 for figures in document["figures"].values())
    assert [target["limit"] for target in document["targets"]] == [1.8] * 3


def test_pipeline_speed__times_every_step_of_every_runtime(
    repo_root: Path, bundle: Path, tmp_path: Path
) -> None:
    _, document = _run(repo_root, tmp_path / "x.json", "pipeline_speed", bundle, "--rounds", 2)
    figures = document["figures"]
    assert set(figures["steps_us"]) == set(RUNTIMES)
    for steps in figures["steps_us"].values():
        assert set(steps) == {"whole", "bare", "call", "letterbox", "post"}
        assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in steps.values())
    assert len(figures["benchmark_app_us"]) == 2
    assert len(document["targets"]) == 2 * len(RUNTIMES) + 1


def test_postprocess_speed__naive_version_finds_the_same(repo_root: Path, tmp_path: Path) -> None:
    # It compares the detections before it times.
    _, document = _run(
        repo_root, tmp_path / "x.json", "postprocess_speed", "--rounds", 1, "--calls", 1
    )  # fmt: skip
    assert [target["limit"] for target in document["targets"]] == [12, 16, 40, 3]


def test_letterbox_speed__has_all_its_figures(repo_root: Path, tmp_path: Path) -> None:
    _, document = _run(repo_root, tmp_path / "x.json", "letterbox_speed", "--rounds", 1, "--calls", 3)
    assert set(document["figures"]) >= {"letterbox", "reading the frame once", "naive letterbox to float"}


def test_cold_start__times_first_and_later_starts(repo_root: Path, bundle: Path, tmp_path: Path) -> None:
    _, document = _run(repo_root, tmp_path / "x.json", "cold_start", bundle, "--rounds", 1)
    starts = {f"{runtime} {which}" for runtime in RUNTIMES for which in ("first", "later")}
    assert set(document["figures"]) == {"numpy later", *starts}


def test_sharing_cores__measures_each_setting(repo_root: Path, bundle: Path, tmp_path: Path) -> None:
    if default_threads() < 2:
        pytest.skip("one core has nothing to share")
    _, document = _run(
        repo_root, tmp_path / "x.json", "sharing_cores", bundle, "--rounds", 1, "--seconds", 1
    )  # fmt: skip
    turns = {f"turns, {runtime}, {how}" for runtime in RUNTIMES for how in ("at once", "in turns")}
    assert turns <= set(document["figures"])


def test_tflite_packages__other_python_is_run(repo_root: Path, bundle: Path, tmp_path: Path) -> None:
    # This environment twice: one with tflite-runtime is not at hand in a test.
    _, document = _run(
        repo_root, tmp_path / "x.json", "tflite_packages", bundle, "--python", sys.executable,
        "--rounds", 1, "--calls", 5,
    )  # fmt: skip
    assert len(document["figures"]) == 3


def test_soak__samples_memory_handles_and_latency(repo_root: Path, bundle: Path, tmp_path: Path) -> None:
    _, document = _run(repo_root, tmp_path / "x.json", "soak", bundle, "--frames", 200)
    for runtime in RUNTIMES:
        samples = document["figures"][runtime]
        assert [sample["frames"] for sample in samples] == list(range(10, 210, 10))
        # Handles and threads do not depend on the machine's load.
        assert samples[-1]["handles"] <= samples[2]["handles"]
        assert samples[-1]["threads"] <= samples[2]["threads"]


@pytest.mark.slow
def test_export_cost__measures_time_and_memory(repo_root: Path, tmp_path: Path) -> None:
    # The embedded detector: an export that fails, as that of an untrained one would, is no measurement.
    _, document = _run(repo_root, tmp_path / "x.json", "export_cost", "--runs", 1)
    (cost,) = document["figures"]["runs"]
    assert cost["wall_s"] > 0
    assert cost["peak_bytes"] > 100e6  # torch alone
    assert cost["artifacts"] >= len(FORMATS) * len(PRECISIONS)


def test_report_cost__measures_time_and_size(repo_root: Path, tmp_path: Path) -> None:
    write_free_data(tmp_path / "free-data")
    recorded = tmp_path / "parity.json"
    recorded.write_bytes(gzip.decompress((repo_root / "tests" / "report" / "parity.json.gz").read_bytes()))
    arguments = (recorded, "--data", tmp_path / "free-data", "--runs", 1)
    _, document = _run(repo_root, tmp_path / "x.json", "report_cost", *arguments)
    assert document["figures"]["wall_s"][0] > 0
    assert document["figures"]["bytes"] > 1e5  # charts and pictures


def test_readme_picture__draws_both(repo_root: Path, small_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repo_root / "benchmarks" / "readme_picture.py"), str(small_bundle)]
    subprocess.run([*command, str(tmp_path / "x.jpg")], cwd=repo_root, check=True, capture_output=True)
    height, width, _ = read_image_bgr(tmp_path / "x.jpg").shape
    assert width > 2 * height


def test_benchmark__user_mistake_is_one_line(repo_root: Path, tmp_path: Path) -> None:
    script = repo_root / "benchmarks" / "int8_speed.py"
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "no bundle" in result.stderr


def test_analyze_speed__times_each_part(repo_root: Path, shapes: Path, tmp_path: Path) -> None:
    labels = shapes / "annotations" / "instances_val.json"
    _, document = _run(repo_root, tmp_path / "x.json", "analyze_speed", "--data", labels, "--runs", 1)
    parts = {"whole_s", "reading", "scaling", "all levels", "p4 alone", "anchors"}
    assert set(document["figures"]) == parts


def test_loader_speed__times_loaders_and_the_step(repo_root: Path, tmp_path: Path) -> None:
    data = make_coco_set(tmp_path / "shapes", "train", 4)
    _, document = _run(
        repo_root, tmp_path / "x.json", "loader_speed", "--data", data, "--rounds", 1, "--steps", 1
    )
    assert len(document["figures"]) == 5
    assert [target["limit"] for target in document["targets"]] == [2, 2]


def test_train_speed__times_a_step_and_the_network(repo_root: Path, tmp_path: Path) -> None:
    data = make_coco_set(tmp_path / "shapes", "train", 4)
    _, document = _run(
        repo_root, tmp_path / "x.json", "train_speed", "--data", data, "--preset", "smoke", "--rounds", 1,
        "--steps", 1, "--threads", 1,
    )  # fmt: skip
    assert set(document["figures"]) == {"network", "training"}


@pytest.mark.slow
def test_ablations__trains_and_measures_each_row(repo_root: Path, tmp_path: Path) -> None:
    data = make_coco_set(tmp_path / "shapes", "train", 4)
    make_coco_set(data, "val", 2, seed=1)
    command = (
        "--data", data, "--out", tmp_path / "runs", "--preset", "smoke", "--epochs", 1, "--seeds", 1,
        "--threads", 1,
    )  # fmt: skip
    printed, document = _run(repo_root, tmp_path / "x.json", "ablations", *command)
    assert len(document["figures"]) == 6
    assert "computed from the distances" in printed
    # What is there is measured, and not trained again.
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.safetensors")}
    assert len(before) == 6
    assert _run(repo_root, tmp_path / "x.json", "ablations", *command)[1]["figures"] == document["figures"]
    assert {path: path.read_bytes() for path in before} == before


def test_bf16_speed__three_ways_take_turns(repo_root: Path, tmp_path: Path) -> None:
    _, document = _run(
        repo_root, tmp_path / "x.json", "bf16_speed", "--preset", "smoke", "--batch-size", 2, "--rounds", 1,
        "--steps", 1, "--threads", 1,
    )  # fmt: skip
    assert len(document["figures"]) == 3


@pytest.mark.slow
def test_recipe_steps__a_step_is_its_base_with_something_changed(repo_root: Path, tmp_path: Path) -> None:
    data = make_coco_set(tmp_path / "shapes", "train", 6)
    command = (
        "--data", data, "--out", tmp_path / "runs", "--only", "first,live-norm",
        "--classes", ",".join(CLASSES), "--set", "epochs=1", "--set", "input_hw=[64,64]",
        "--hold-out", 2, "--threads", 1,
    )  # fmt: skip
    printed, document = _run(repo_root, tmp_path / "x.json", "recipe_steps", *command)
    assert set(document["figures"]) == {"first", "live-norm"}
    assert "normalization trains" in printed
    configs = []
    for name in ("first", "live-norm"):
        checkpoint = load_checkpoint(tmp_path / "runs" / f"{name}-seed0" / f"{name}-seed0.safetensors")
        configs.append({**checkpoint.config, "made_with": None})
    assert configs[1] == {**configs[0], "frozen_norm": False}
    # What is there is measured, and not trained again.
    again = _run(repo_root, tmp_path / "x.json", "recipe_steps", *command)[1]
    assert again["figures"] == document["figures"]


def test_assign_speed__all_ways_give_the_same(repo_root: Path, tmp_path: Path) -> None:
    _, document = _run(repo_root, tmp_path / "x.json", "assign_speed", "--pictures", 1, "--rounds", 1)
    assert {"naive, all", "fcos, all", "fcos, targets", "atss, all"} <= set(document["figures"])


def test_untrained_bundle__of_any_shape_can_be_timed(repo_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "wide"
    command = (
        sys.executable, repo_root / "benchmarks" / "untrained_bundle.py", "smoke", "--out", out,
        "--set", "network.neck=pan", "--set", "network.tower_depth=1",
    )  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(repo_root)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    _, document = _run(repo_root, tmp_path / "x.json", "int8_cost", out, "--rounds", 1, "--calls", 1)
    assert len(document["figures"]) == len(RUNTIMES)


def test_int8_cost__compares_every_bundle_with_the_first(
    repo_root: Path, bundle: Path, tmp_path: Path
) -> None:
    _, document = _run(
        repo_root,
        tmp_path / "x.json",
        "int8_cost",
        bundle,
        bundle,
        "--limits",
        9,
        "--rounds",
        2,
        "--calls",
        2,
    )
    assert [target["limit"] for target in document["targets"]] == [9.0] * 3
    assert len(document["figures"]) == 3
