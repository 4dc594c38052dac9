"""An earlier report beside today's: the same passes, better then fails, anything else is refused or said."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.errors import UsageError
from fcos_edge.parity.artifact import ArtifactParity
from fcos_edge.parity.baseline import Baseline, check_same_data, judged_against, read_baseline
from fcos_edge.parity.limits import Limits
from fcos_edge.parity.report import ParityReport

FP32, INT8 = "model.fp32.onnx in onnxruntime", "model.int8.onnx in onnxruntime"
Document = dict[str, Any]
# Few boxes are at hand: all classes are judged alone.
LIMITS = replace(Limits(), least_boxes=1)


def written(path: Path, document: Document) -> Baseline:
    path.write_text(json.dumps(document))
    return read_baseline(path)


@pytest.fixture
def document(small_report: ParityReport) -> Document:
    return copy.deepcopy(small_report.to_dict())


def int8_of(document: Document) -> Document:
    (found,) = (one for one in document["artifacts"] if one["name"] == INT8)
    return dict(found)


def failed_against(
    baseline: Baseline, artifacts: tuple[ArtifactParity, ...], limits: Limits = LIMITS
) -> dict[str, list[str]]:
    """Artifact -> the gates against the baseline that it fails."""
    judged, _ = judged_against(baseline, artifacts, limits)
    return {
        one.name: [gate.name for gate in one.failed if gate.name.startswith("baseline_")]
        for one in judged
        if one.failed
    }


def test_same__passes(small_report: ParityReport, document: Document, tmp_path: Path) -> None:
    baseline = written(tmp_path / "old.json", document)
    check_same_data(baseline, small_report.data)
    judged, said = judged_against(baseline, small_report.artifacts, LIMITS)
    assert [gate.name for gate in judged[1].gates if gate.name.startswith("baseline_")] == [
        "baseline_ap_drop", "baseline_class_drop", "baseline_miss_increase", "baseline_latency_ratio",
    ]  # fmt: skip
    assert all(gate.passed for one in judged for gate in one.gates if gate.name.startswith("baseline_"))
    assert (said["compared"], said["only_there"], said["only_here"]) == ([FP32, INT8], [], [])
    assert (said["file"], said["bundle"]) == ("old.json", document["bundle"])
    assert json.loads(json.dumps(said, allow_nan=False)) == said


def raise_ap(document: Document) -> None:
    int8_of(document)["accuracy"]["classes"]["cat"]["AP"] += 0.3


def lower_misses(document: Document) -> None:
    int8_of(document)["accuracy"]["classes"]["person"]["miss_rate"] -= 0.04


def halve_ratio(document: Document) -> None:
    int8_of(document)["latency_ratio"]["median"] /= 2


def lower_ap(document: Document) -> None:
    int8_of(document)["accuracy"]["classes"]["cat"]["AP"] -= 0.3


def forget_a_class(document: Document) -> None:
    del int8_of(document)["accuracy"]["classes"]["cat"]


def double_ratio(document: Document) -> None:
    int8_of(document)["latency_ratio"]["median"] *= 2


@pytest.mark.parametrize(("change", "gates"), [
    (raise_ap, ["baseline_ap_drop", "baseline_class_drop"]),
    (lower_misses, ["baseline_miss_increase"]),
    (halve_ratio, ["baseline_latency_ratio"]),
    (lower_ap, []),  # better now
    (double_ratio, []),
    (forget_a_class, []),  # a class that was not measured then
])  # fmt: skip
def test_worse__fails_the_same_gates(
    small_report: ParityReport, document: Document, tmp_path: Path,
    change: Callable[[Document], None], gates: list[str],
) -> None:  # fmt: skip
    change(document)
    failed = failed_against(written(tmp_path / "old.json", document), small_report.artifacts)
    assert failed == ({INT8: gates} if gates else {})


def test_worse__names_the_file(small_report: ParityReport, document: Document, tmp_path: Path) -> None:
    raise_ap(document)
    judged, _ = judged_against(written(tmp_path / "march.json", document), small_report.artifacts, LIMITS)
    (gate,) = (gate for gate in judged[1].gates if gate.name == "baseline_class_drop")
    assert gate.check.description.startswith("cat: points of AP lost against march.json is 30, allowed at")


def test_other_artifacts__are_said(small_report: ParityReport, document: Document, tmp_path: Path) -> None:
    gone = {**int8_of(document), "name": "model.int8.xml in openvino", "file": "model.int8.xml",
            "package": "openvino"}  # fmt: skip
    document["artifacts"] = [int8_of(document), gone]
    _, said = judged_against(written(tmp_path / "old.json", document), small_report.artifacts, LIMITS)
    assert (said["compared"], said["only_there"], said["only_here"]) == ([INT8], [gone["name"]], [FP32])


def test_other_artifacts__alone_are_refused(
    small_report: ParityReport, document: Document, tmp_path: Path
) -> None:
    for one in document["artifacts"]:
        one.update(name=f"{one['name']}-gpu", package="onnxruntime-gpu")
    baseline = written(tmp_path / "old.json", document)
    with pytest.raises(UsageError, match=f"has none of the artifacts that ran, it has {FP32}-gpu, "):
        judged_against(baseline, small_report.artifacts, LIMITS)
    document["artifacts"] = []
    with pytest.raises(UsageError, match="it has none at all"):
        judged_against(written(tmp_path / "old.json", document), small_report.artifacts, LIMITS)


def test_collected__weeks_apart_is_the_same_artifact(
    small_report: ParityReport, document: Document, tmp_path: Path
) -> None:
    raise_ap(document)
    for one in document["artifacts"]:
        one["name"] += ", week-11.jsonl"
    baseline = written(tmp_path / "old.json", document)
    judged, said = judged_against(baseline, small_report.artifacts, LIMITS)
    assert (said["compared"], said["only_there"]) == ([FP32, INT8], [])
    assert judged[1].failed
    # Of two boards nobody knows which it was.
    document["artifacts"] += [{**one, "name": f"{one['name']} again"} for one in document["artifacts"]]
    with pytest.raises(UsageError, match="has none of the artifacts that ran"):
        judged_against(written(tmp_path / "old.json", document), small_report.artifacts, LIMITS)


def test_failed_now_or_then__is_not_compared(
    small_report: ParityReport, document: Document, tmp_path: Path
) -> None:
    lost = replace(small_report.artifacts[1], accuracy=None, gates=())
    _, said = judged_against(
        written(tmp_path / "old.json", document), (small_report.artifacts[0], lost), LIMITS
    )
    assert (said["compared"], said["only_there"], said["only_here"]) == ([FP32], [], [])
    int8_of(document)  # is there
    document["artifacts"][1]["accuracy"] = None
    _, said = judged_against(written(tmp_path / "old.json", document), small_report.artifacts, LIMITS)
    assert (said["compared"], said["only_here"]) == ([FP32], [INT8])


@pytest.mark.parametrize(("changes", "said"), [
    ({"pictures_sha256": "0" * 64}, "was measured on other pictures"),
    ({"classes": ["person"]}, "was measured on other classes"),
    ({"boxes": 11}, "was measured on other boxes"),
    ({"pictures_sha256": None, "pictures": None}, "was measured on other pictures"),
])  # fmt: skip
def test_other_data__is_refused(
    small_report: ParityReport, document: Document, tmp_path: Path, changes: Document, said: str
) -> None:
    document["data"].update(changes)
    baseline = written(tmp_path / "old.json", document)
    with pytest.raises(UsageError, match=said) as caught:
        check_same_data(baseline, small_report.data)
    assert "give a report of these 8 pictures and 10 boxes of few/val" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_data__the_order_of_classes_is_none(
    small_report: ParityReport, document: Document, tmp_path: Path
) -> None:
    document["data"]["classes"].reverse()  # of another release, whose labels have another order
    check_same_data(written(tmp_path / "old.json", document), small_report.data)


def first(document: Document) -> Document:
    return dict(document["artifacts"][0])


@pytest.mark.parametrize(("change", "said"), [
    (lambda d: d.pop("schema"), "'schema' is missing"),
    (lambda d: d.update(schema=5), "has no attribute"),
    (lambda d: d.update(schema="fcos-edge.verify/1"), "its schema is 'fcos-edge.verify/1'"),
    (lambda d: d.update(artifacts=5), "not iterable"),
    (lambda d: d.update(artifacts=[5]), "not subscriptable"),
    (lambda d: d.update(data=[]), "has no attribute"),
    (lambda d: d.pop("bundle"), "'bundle' is missing"),
    (lambda d: d["artifacts"][0].update(name=None), "an artifact has no name"),
    (lambda d: first(d)["accuracy"].update(classes=[1]), "has no attribute"),
    (lambda d: first(d)["accuracy"]["classes"]["cat"].update(AP="much"), "must be real number"),
    (lambda d: first(d)["accuracy"]["classes"]["cat"].update(AP=float("nan")), "no finite number"),
    (lambda d: first(d)["accuracy"]["classes"]["cat"].pop("miss_rate"), "'miss_rate' is missing"),
    (lambda d: d["artifacts"][1].update(latency_ratio={}), "'median' is missing"),
    (lambda d: d["artifacts"][1].update(latency_ratio={"median": 0}), "a latency ratio is not above 0"),
    (lambda d: d["artifacts"][1].update(latency_ratio={"median": "fast"}), "not supported between"),
])  # fmt: skip
def test_not_a_report__is_one_line(
    document: Document, tmp_path: Path, change: Callable[[Document], object], said: str
) -> None:
    change(document)
    with pytest.raises(UsageError) as caught:
        written(tmp_path / "old.json", document)
    message = str(caught.value)
    assert message.startswith(f"--baseline {tmp_path / 'old.json'}: not what `parity --json` printed (")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100_000])
def test_not_a_report__not_even_an_object(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "old.json").write_bytes(content)
    with pytest.raises(UsageError, match="not what `parity --json` printed"):
        read_baseline(tmp_path / "old.json")


def test_not_a_report__cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(UsageError, match=r"cannot be read \(.*\); check the path"):
            read_baseline(path)


def test_version__of_a_later_release(document: Document, tmp_path: Path) -> None:
    document["schema"] = "fcos-edge.parity/2.0"
    with pytest.raises(UsageError, match=r"report: version 2\.0 is not 1\.x; install the fcos-edge release"):
        written(tmp_path / "old.json", document)
