"""What `--collect` writes comes back as it was, and anything else is one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fcos_edge.detections import Detections
from fcos_edge.errors import UsageError
from fcos_edge.parity.recording import (
    PictureId,
    Recording,
    VariantRun,
    read_recording,
    write_recording,
)
from fcos_edge.workers.variants import Variant
from fcos_edge.writing import check_new_file
from tests.small_specs import SMALL_SPEC

PICTURES = (PictureId(7, "a.jpg", "a" * 64), PictureId(9, "b.jpg", "b" * 64))
VERIFY = {"passed": True, "failure": "", "note": "", "checks": []}


def detections(seed: int, count: int = 5) -> Detections:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 300, (count, 2)).astype(np.float32)
    sides = generator.uniform(0, 100, (count, 2)).astype(np.float32)
    scores = np.sort(generator.uniform(0, 1, count).astype(np.float32))[::-1]
    labels = generator.integers(0, len(SMALL_SPEC.classes), count)
    return Detections(np.hstack([corners, corners + sides]), np.ascontiguousarray(scores), labels)


def make_recording() -> Recording:
    """One artifact that went well, one that crashed after the first picture, one that could not be loaded."""
    well = VariantRun(
        Variant("model.int8.onnx", "int8", "onnxruntime", "onnxruntime"), 2, SMALL_SPEC, (0.1, 0.25, 1 / 3),
        4711, {"onnxruntime": "1.2"}, 12.5, 3.25, {"before": 50.0, "rest": None, "peak": 90.5},
        [[[0.1, 2.0, 0.3], [0.1, 2.5, 0.3]], [[0.2, 2.0, 0.3]]], VERIFY, "",
        (detections(0), Detections.empty()),
    )  # fmt: skip
    crashed = replace(
        well, variant=Variant("model.int8.tflite", "int8", "tflite", "ai-edge-litert"), verify=None,
        rounds_ms=[], failure="crashed with SIGSEGV", detections=(detections(1),),
    )  # fmt: skip
    absent = VariantRun(
        Variant("model.fp32.onnx", "fp32", "onnxruntime", "onnxruntime"),
        2,
        rounds_ms=[],
        failure="missing",
    )
    return Recording("f" * 64, "few/val", PICTURES, {"cpu": "some"}, (well, crashed, absent))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_recording(tmp_path / "out.jsonl", make_recording())
    return tmp_path / "out.jsonl"


def test_round_trip__everything_comes_back(written: Path) -> None:
    before, after = make_recording(), read_recording(written)
    assert (after.bundle, after.data, after.pictures) == (before.bundle, before.data, before.pictures)
    assert (after.conditions, after.machine) == (before.conditions, "out.jsonl")
    assert len(after.runs) == len(before.runs)
    for run, back in zip(before.runs, after.runs, strict=True):
        assert back.head() == run.head()
        assert (back.spec, back.thresholds, back.failure) == (run.spec, run.thresholds, run.failure)
        assert back.variant == replace(run.variant, python="")
        assert back.name == f"{run.name}, out.jsonl"
        assert [one.to_lists() for one in back.detections] == [one.to_lists() for one in run.detections]
    assert sorted(path.name for path in written.parent.iterdir()) == ["out.jsonl"]


def test_round_trip__it_is_called_as_it_is_asked_to(written: Path) -> None:
    back = read_recording(written, "board/out.jsonl")
    assert (back.machine, back.runs[0].machine) == ("board/out.jsonl", "board/out.jsonl")


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.float32, (3, 6), elements=st.floats(0, 1, width=32)))
def test_round_trip__float32_is_exact(tmp_path_factory: pytest.TempPathFactory, values: Any) -> None:
    path = tmp_path_factory.mktemp("exact") / "out.jsonl"
    boxes = np.hstack([values[:, :2], values[:, :2] + values[:, 2:4]])
    found = Detections(boxes, np.sort(values[:, 5])[::-1].copy(), np.zeros(3, np.int64))
    recording = make_recording()
    runs = (replace(recording.runs[0], detections=(found, found)),)
    write_recording(path, replace(recording, runs=runs))
    (back,) = read_recording(path).runs
    for one in back.detections:
        assert np.array_equal(one.boxes_xyxy, found.boxes_xyxy)
        assert np.array_equal(one.scores, found.scores)


def test_truncated__wherever_it_is_cut(written: Path) -> None:
    content = written.read_bytes()
    lines = content.splitlines(keepends=True)
    ends = list(np.cumsum([len(line) for line in lines]))[:-1]  # after each line but the last
    inside = list(range(0, len(content) - 1, 97))
    for end in (*ends, *inside, len(content) - 2):
        written.write_bytes(content[: int(end)])
        with pytest.raises(UsageError, match="not what `parity --collect` wrote") as caught:
            read_recording(written)
        assert "\n" not in str(caught.value)


def change_line(index: int, change: Callable[[dict[str, Any]], None]) -> Callable[[list[str]], list[str]]:
    def changed(lines: list[str]) -> list[str]:
        document = json.loads(lines[index])
        change(document)
        return [*lines[:index], json.dumps(document), *lines[index + 1 :]]

    return changed


def set_key(index: int, key: str, value: Any) -> Callable[[list[str]], list[str]]:
    return change_line(index, lambda document: document.update({key: value}))


@pytest.mark.parametrize(("change", "said"), [
    (lambda lines: [], "it is empty"),
    (lambda lines: ["no json"], "Expecting value"),
    (lambda lines: ["[1, 2]"], "list indices"),
    (lambda lines: ["[" * 100_000], "recursion"),
    (lambda lines: ['{"schema": 5}'], "has no attribute"),
    (lambda lines: ['{"images": []}'], "'schema' is missing"),
    (set_key(0, "schema", "fcos-edge.parity/1.0"), "its schema is 'fcos-edge.parity/1.0'"),
    (lambda lines: lines[1:], "'schema' is missing"),
    (lambda lines: [lines[0], *lines[2:]], "no artifact's line"),
    (lambda lines: lines[:2] + lines[3:], "pictures are missing between others"),
    (lambda lines: [*lines[:3], *lines[2:]], "pictures are missing between others"),
    (lambda lines: lines[:1], "no artifact's line"),
    (set_key(0, "artifacts", 4), "3 artifacts of 4: the file is cut short"),
    (set_key(0, "pictures", [{"id": 1}]), "unexpected keyword"),
    (set_key(0, "conditions", None), "not iterable"),
    (set_key(1, "failure", None), "its failure is no text"),
    (set_key(1, "spec", {}), "spec: version is None"),
    (set_key(1, "thresholds", [0.5]), "its thresholds do not fit its classes"),
    (set_key(1, "thresholds", ["x", "y", "z"]), "could not convert"),
    (set_key(1, "rounds_ms", 5), "not iterable"),
    (set_key(1, "rounds_ms", [[[1.0]]]), "not enough values"),
    (set_key(1, "rounds_ms", [[[0, 0, 0]]]), "its times are no milliseconds"),
    (set_key(1, "rounds_ms", [[["1", "2", "3"]]]), "not what"),
    (set_key(1, "memory_mib", []), "has no attribute"),
    (set_key(1, "versions", 3), "not iterable"),
    (set_key(1, "verify", {"checks": []}), "its verify lacks failure, note, passed"),
    (set_key(1, "variant", {"file": "x"}), "missing"),
    (change_line(1, lambda head: head["variant"].update(precision="int4")), "its precision is 'int4'"),
    (change_line(1, lambda head: head.pop("load_ms")), "'load_ms' is missing"),
    (set_key(2, "scores", [0.5]), "must be"),
    (set_key(2, "scores", [float("nan")] * 5), "scores must descend"),
    (set_key(2, "labels", [3] * 5), "a label is none of its classes"),
    (set_key(2, "labels", [1e30] * 5), "not what"),
    (set_key(2, "boxes_xyxy", [[9, 9, 1, 1]] * 5), "left top right bottom"),
])  # fmt: skip
def test_foreign__is_one_line(written: Path, change: Callable[[list[str]], list[str]], said: str) -> None:
    written.write_text("".join(line + "\n" for line in change(written.read_text().splitlines())))
    with pytest.raises(UsageError) as caught:
        read_recording(written)
    message = str(caught.value)
    assert message.startswith(f"--from {written}: not what `parity --collect` wrote (")
    assert said in message
    assert message.endswith("collect again")
    assert "\n" not in message


def test_foreign__binary_a_folder_and_nothing(written: Path) -> None:
    written.write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="not what `parity --collect` wrote"):
        read_recording(written)
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\); check the path"):
        read_recording(written.parent)
    with pytest.raises(UsageError, match=r"cannot be read \(No such file or directory\)"):
        read_recording(written.parent / "other.jsonl")


def test_version__of_a_later_release_names_what_to_install(written: Path) -> None:
    text = written.read_text()
    written.write_text(text.replace("fcos-edge.parity-run/1.0", "fcos-edge.parity-run/2.0"))
    with pytest.raises(
        UsageError, match=r"version 2\.0 is not 1\.x; install the fcos-edge release"
    ) as caught:
        read_recording(written)
    assert "collect again" not in str(caught.value)
    written.write_text(text.replace("fcos-edge.parity-run/1.0", "fcos-edge.parity-run/1.7"))
    assert len(read_recording(written).runs) == 3


def test_check_file__before_the_work(tmp_path: Path) -> None:
    check_new_file(tmp_path / "new.jsonl", "--collect")
    assert not list(tmp_path.iterdir())
    (tmp_path / "old.jsonl").write_text("keep me")
    (tmp_path / "link.jsonl").symlink_to("nowhere")
    for name, said in (
        ("old.jsonl", "is there already"),
        ("link.jsonl", "is there already"),
        ("no/new.jsonl", "there is no folder"),
        ("old.jsonl/new.jsonl", "there is no folder"),
        ("n" * 250 + ".jsonl", "File name too long"),
    ):
        with pytest.raises(UsageError, match=said):
            check_new_file(tmp_path / name, "--collect")
    assert (tmp_path / "old.jsonl").read_text() == "keep me"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_file__a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot be written"):
        check_new_file(tmp_path / "out.jsonl", "--collect")


def test_write__what_json_has_not_leaves_nothing_behind(tmp_path: Path) -> None:
    recording = replace(make_recording(), conditions={"mhz": float("nan")})
    with pytest.raises(ValueError, match="JSON compliant"):  # our own mistake: it keeps its traceback
        write_recording(tmp_path / "out.jsonl", recording)
    assert not list(tmp_path.iterdir())
