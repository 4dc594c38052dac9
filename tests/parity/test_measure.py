"""From a bundle and data to a report: run here, or collected on boards and read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.bundle import read_manifest, write_manifest
from fcos_edge.errors import DataError, RuntimeUnavailableError, UsageError
from fcos_edge.free_data import CLASSES
from fcos_edge.parity import measure as measure_module
from fcos_edge.parity.measure import Request, collect, measure
from fcos_edge.parity.recording import read_recording
from fcos_edge.parity.report import ParityReport
from fcos_edge.workers.variants import Interpreter
from tests.conftest import REPO_ROOT
from tests.few_pictures import COUNT, changed_copy
from tests.parity import faulty_workers
from tests.parity.faulty_workers import own_children, write_worker

Document = dict[str, Any]
# Of an artifact: what depends on the clock, the memory, or the file that it was read from.
OF_THE_MOMENT = (
    "latency_ms", "latency_ratio", "load_ms", "first_ms", "memory_mib", "gates", "verify", "name",
)  # fmt: skip
# What only those who run both know.
OF_BOTH_AT_ONCE = ("raw", "one_bit", "floors")

# A board: one runtime, and nothing of a workstation. Python imports sitecustomize wherever it starts.
BOARD = """
from importlib.machinery import PathFinder

ABSENT = ("torch", "faster_coco_eval", "openvino", "ai_edge_litert", "onnx", "tqdm")
find = PathFinder.find_spec

def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in ABSENT else find(name, path, target)

PathFinder.find_spec = classmethod(find_spec)
"""


def settled(report: ParityReport, *left_out: str) -> list[Document]:
    """The artifacts' JSON without what differs from run to run."""
    return [
        {key: value for key, value in one.items() if key not in (*OF_THE_MOMENT, *left_out)}
        for one in report.to_dict()["artifacts"]
    ]


@pytest.fixture(scope="module")
def recorded(small_request: Request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collected on a board."""
    folder = tmp_path_factory.mktemp("board")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(BOARD)
    done = subprocess.run(
        [
            sys.executable, "-m", "fcos_edge", "parity", str(small_request.bundle), "--data",
            str(small_request.data), "--threads", "1", "--collect", "board.jsonl",
        ],
        cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(REPO_ROOT)])},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.splitlines()[-1] == "wrote board.jsonl: 2 artifacts, 8 pictures"
    return folder / "board.jsonl"


def test_measure__the_report_is_json_and_whole(small_report: ParityReport) -> None:
    document = small_report.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == "fcos-edge.parity/1.1"
    assert (document["passed"], document["failed"]) == (True, [])
    assert document["data"] == {**document["data"], "pictures": COUNT, "boxes": 10, "classes": list(CLASSES)}
    assert document["conditions"].keys() == {"here"}
    assert [one["precision"] for one in document["artifacts"]] == ["fp32", "int8"]
    fp32, int8 = document["artifacts"]
    assert (fp32["latency_ratio"], int8["latency_ratio"]["rounds"]) == (None, 10)
    assert int8["latency_ms"]["whole"]["n"] == 80
    assert int8["memory_mib"]["peak"] >= int8["memory_mib"]["rest"] > int8["memory_mib"]["before"] > 0
    assert fp32["agreement"]["detections"]["both"]["rate"] == 1
    assert document["noise"]["agreement"]["pictures"] == COUNT
    assert int8["one_bit"]["logit_change"] > 0


def test_measure__again_gives_the_same(small_request: Request, small_report: ParityReport) -> None:
    again = measure(small_request)
    assert settled(again) == settled(small_report)
    one, other = again.to_dict(), small_report.to_dict()
    for key in ("data", "bundle", "limits", "reference", "noise", "pairs", "skipped"):
        assert one[key] == other[key]


def test_collect__a_board_and_a_workstation_say_what_one_machine_says(
    recorded: Path, small_request: Request, small_report: ParityReport
) -> None:
    report = measure(replace(small_request, runtime=None), [recorded])
    assert settled(report, *OF_BOTH_AT_ONCE) == settled(small_report, *OF_BOTH_AT_ONCE)
    assert report.reference_accuracy.to_dict() == small_report.reference_accuracy.to_dict()
    assert [one.name for one in report.artifacts] == [
        f"{one.name}, board.jsonl" for one in small_report.artifacts
    ]
    assert report.conditions.keys() == {"here", "board.jsonl"}
    for one, direct in zip(report.artifacts, small_report.artifacts, strict=True):
        gates, direct_gates = ({gate.name: gate.passed for gate in a.gates} for a in (one, direct))
        # Raw outputs are not collected: too large.
        assert direct_gates.keys() - gates.keys() <= {"raw_outputs", "runtimes_agree"}
        assert all(gates.values())
    assert report.artifacts[1].latency_ratio is not None


def test_collect__keeps_what_was_found_on_the_way(recorded: Path) -> None:
    runs = read_recording(recorded).runs
    assert [(run.variant.package, len(run.detections), run.failure) for run in runs] == [
        ("onnxruntime", COUNT, ""), ("onnxruntime", COUNT, ""),
    ]  # fmt: skip
    assert all(run.verify is not None and run.verify["passed"] for run in runs)
    assert all("torch" not in run.versions for run in runs)


def test_from__two_boards_stay_apart(recorded: Path, small_request: Request, tmp_path: Path) -> None:
    # The other one has the same file name, and only the fp32 artifact: there is no ratio of int8 to it.
    lines = recorded.read_text().splitlines()
    second = next(place for place, line in enumerate(lines[2:], 2) if '"variant"' in line)
    head = json.loads(lines[0]) | {"artifacts": 1}
    boards = [tmp_path / "a" / "out.jsonl", tmp_path / "b" / "out.jsonl"]
    for board, kept in zip(boards, (lines[1:second], lines[second:]), strict=True):
        board.parent.mkdir()
        board.write_text("\n".join([json.dumps(head), *kept]) + "\n")
    report = measure(replace(small_request, runtime=None), boards)
    assert [one.name for one in report.artifacts] == [
        f"model.fp32.onnx in onnxruntime, {boards[0]}", f"model.int8.onnx in onnxruntime, {boards[1]}",
    ]  # fmt: skip
    assert [one.latency_ratio for one in report.artifacts] == [None, None]
    assert report.conditions.keys() == {"here", *map(str, boards)}
    with pytest.raises(UsageError, match="one file is named twice"):
        measure(small_request, [recorded, recorded.parent / ".." / recorded.parent.name / recorded.name])


def test_from__another_bundle_or_other_pictures_are_refused(
    recorded: Path, small_request: Request, tmp_path: Path
) -> None:
    bundle = shutil.copytree(small_request.bundle, tmp_path / "bundle")
    manifest = read_manifest(bundle)
    write_manifest(bundle, replace(manifest, artifacts=manifest.artifacts[:1]))
    with pytest.raises(UsageError, match="was collected with another bundle than"):
        measure(replace(small_request, bundle=bundle), [recorded])

    def drop_one(document: Document) -> None:
        document["images"].pop()

    data = changed_copy(small_request.data, tmp_path / "data", drop_one)
    with pytest.raises(
        UsageError, match=r"was collected on other pictures \(few/val, 8\); give the same --data"
    ):
        measure(replace(small_request, data=data), [recorded])


def test_from__where_nothing_runs_a_collected_float_is_the_reference(
    recorded: Path, small_request: Request, small_report: ParityReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Interpreter(sys.executable, {})
    monkeypatch.setattr(measure_module, "this_interpreter", lambda: nothing)
    monkeypatch.setattr(measure_module, "open_interpreters", lambda pythons: [nothing])
    report = measure(small_request, [recorded])
    assert report.why == "model.fp32.onnx in onnxruntime, board.jsonl, since nothing runs here"
    assert settled(report, *OF_BOTH_AT_ONCE) == settled(small_report, *OF_BOTH_AT_ONCE)
    assert report.noise is None
    with pytest.raises(RuntimeUnavailableError, match="no runtime for the files of this bundle is installed"):
        measure(small_request)


def test_collect__a_failure_is_kept_and_reported(small_request: Request, tmp_path: Path) -> None:
    # The Python that is named runs its package, also where this one has it.
    python = Path(write_worker(tmp_path / "python", faulty_workers.CRASH_IN_THE_SECOND_BLOCK))
    request = replace(small_request, pythons=(("onnxruntime", python),), precisions=("int8",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fcos_edge.parity.running._BLOCK", 5)
        recording = collect(request, tmp_path / "out.jsonl")
    assert [(run.failure, len(run.detections)) for run in recording.runs] == [("crashed with SIGABRT", 5)]
    report = measure(small_request, [tmp_path / "out.jsonl"])
    (one,) = report.artifacts
    assert (report.passed, [gate.name for gate in one.failed]) == (False, ["runs"])
    assert report.failures == [
        "model.int8.onnx in onnxruntime, out.jsonl: runs: artifact: crashed with SIGABRT"
    ]
    assert json.dumps(report.to_dict(), allow_nan=False)
    assert not own_children()


def test_collect__only_the_classes_that_are_asked_for_must_be_there(
    small_request: Request, tmp_path: Path
) -> None:
    def rename(document: Document) -> None:
        document["categories"][1]["name"] = "tricycle"  # was bicycle, of which there is no box

    data = changed_copy(small_request.data, tmp_path / "data", rename)
    request = replace(small_request, data=data, precisions=("int8",))
    with pytest.raises(DataError, match="has no class 'bicycle' of the model"):
        collect(request, tmp_path / "out.jsonl")
    request = replace(request, classes=("cat", "person"))
    collect(request, tmp_path / "out.jsonl")
    report = measure(request, [tmp_path / "out.jsonl"])
    assert report.data["classes"] == ["person", "cat"]  # as the model has them
    assert [row.name for row in report.reference_accuracy.classes] == ["person", "cat"]


def test_measure__another_order_of_classes_does_no_harm(
    small_request: Request, small_report: ParityReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reverse(document: Document) -> None:
        count = len(document["categories"])
        for place, row in enumerate(reversed(document["categories"]), 1):
            row["id"] = place
        document["categories"].reverse()
        for row in document["annotations"]:
            row["category_id"] = count + 1 - row["category_id"]

    data = changed_copy(small_request.data, tmp_path / "data", reverse)
    # One precision alone, and the reference is the other one's all the same.
    report = measure(replace(small_request, data=data, precisions=("int8",)))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        f"classes matched by name: the data has them as {', '.join(reversed(CLASSES))};"
        f" the model as {', '.join(CLASSES)}"
    )
    assert report.reference.name == "model.fp32.onnx in onnxruntime"
    (one,) = report.artifacts
    assert one.accuracy is not None
    assert small_report.artifacts[1].accuracy is not None
    assert one.accuracy.to_dict() == small_report.artifacts[1].accuracy.to_dict()
    with pytest.raises(DataError, match="its classes are in another order"):
        measure(replace(small_request, data=data, is_strict=True))
