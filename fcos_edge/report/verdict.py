"""What a parity report decides, in words: whether to ship, why, and the three figures that matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcos_edge.report.series import Artifact, int8_or_all
from fcos_edge.report.table import NOTHING, Tile, Tone, signed

_MOST_LINES = 5
_MOST_NAMES = 2


@dataclass(frozen=True)
class Verdict:
    """`SHIP` or `DO NOT SHIP`, one sentence, what failed, and what must be known besides."""

    has_passed: bool
    sentence: str
    lines: Sequence[str]
    notes: Sequence[str]
    tiles: Sequence[Tile]

    @property
    def headline(self) -> str:
        return "SHIP" if self.has_passed else "DO NOT SHIP"

    @property
    def tone(self) -> str:
        return "good" if self.has_passed else "bad"


def judge(document: Mapping[str, Any]) -> Verdict:
    """document: what `parity --json` wrote"""
    artifacts: Sequence[Artifact] = document["artifacts"]
    failed = [one for one in artifacts if not one["passed"]]
    data = document["data"]
    measured = f"{data['pictures']:,} pictures with {data['boxes']:,} labelled boxes"
    if document["passed"]:
        judged = sum(gate["is_judged"] for one in artifacts for gate in one["gates"])
        sentence = (
            f"{_all_of(len(artifacts))} what the reference in {_reference_ran(document)} finds, within the"
            f" limits: {judged:,} of {judged:,} gates passed on {measured}."
        )
    else:
        others = len(artifacts) - len(failed)
        few = len(failed) <= _MOST_NAMES
        which = (
            " and ".join(one["name"] for one in failed)
            if few
            else f"{len(failed)} of {len(artifacts)} models"
        )
        passed = f"; the other {_count(others, 'model')} passed and may ship" if others else ""
        sentence = f"{which} failed on {measured}{passed}. What was found, and what is allowed:"
    lines = [_said(one, gate) for one in failed for gate in one["gates"] if not gate["passed"]]
    if len(lines) > _MOST_LINES:
        more = len(lines) - _MOST_LINES + 1
        lines = [*lines[: _MOST_LINES - 1], f"and {more} more gates: see Gates below"]
    tiles = [_accuracy(document), _speed(artifacts), _size(artifacts)]
    return Verdict(document["passed"], sentence, lines, _notes(document), tiles)


def _said(one: Artifact, gate: Mapping[str, Any]) -> str:
    return f"{one['name']}: {gate['description']} (gate {gate['name']})"


def _notes(document: Mapping[str, Any]) -> list[str]:
    """What the verdict does not say by itself."""
    artifacts = document["artifacts"]
    notes = []
    ap = document["reference"]["accuracy"]["figures"]["AP"]
    if document["passed"] and ap >= 0:
        notes.append(f"This is about the export. How good the detector itself is, says its own AP: {ap:.4f}.")
    if not document["passed"]:
        notes.append("A point is a hundredth: 0.01 of AP, or 1 % of the boxes.")
    if seen := document["data"].get("calibrated_on"):
        notes.append(f"int8 was calibrated on {seen} of these pictures, where it looks better than it is.")
    if reasons := reasons_not_judged(artifacts):
        said = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        notes.append(f"Not judged, so that the verdict does not speak of it: {said}.")
    slow = [one["name"] for one in artifacts if one["latency_ratio"] and one["latency_ratio"]["median"] > 1]
    if slow:
        notes.append(f"int8 is slower than fp32 here in {', '.join(slow)}.")
    if document["skipped"]:
        notes.append(f"Not run, no runtime for them there: {', '.join(document['skipped'])}.")
    return notes


def reasons_not_judged(artifacts: Sequence[Artifact]) -> dict[str, list[str]]:
    """Why -> the gates that were only reported."""
    reasons: dict[str, list[str]] = {}
    for gate in (gate for one in artifacts for gate in one["gates"] if not gate["is_judged"]):
        names = reasons.setdefault(gate["why"], [])
        if gate["name"] not in names:
            names.append(gate["name"])
    return reasons


def _accuracy(document: Mapping[str, Any]) -> Tile:
    """Of the artifact that loses most."""
    label = f"Accuracy kept{_by_int8(document['artifacts'], 'in')}"
    measured = [one for one in int8_or_all(document["artifacts"]) if one["accuracy"]["figures"]["AP"] >= 0]
    before = document["reference"]["accuracy"]["figures"]["AP"]
    if not measured or before <= 0:
        return Tile(label, NOTHING, "nothing was measured")
    worst = min(measured, key=lambda one: one["accuracy"]["figures"]["AP"])
    after = worst["accuracy"]["figures"]["AP"]
    most = max(one["accuracy"]["figures"]["AP"] for one in measured)
    change = worst["difference"]["figures"]["AP"] if worst["difference"] else None
    interval = ""
    if change is not None and change["interval_95"] is not None:
        interval = ", 95 % interval of the change {} to {}".format(*map(signed, change["interval_95"]))
    which = f"the least of {len(measured)}, " if len(measured) > 1 else ""
    note = f"{which}{worst['name']}: AP {after:.4f} of {before:.4f}{interval}"
    lost = {gate["name"] for one in measured for gate in one["gates"] if not gate["passed"]}
    return Tile(
        label, _range(100 * after / before, 100 * most / before, ".1f", "%"), note, after,
        "bad" if "ap_drop" in lost else "",
    )  # fmt: skip


def _speed(artifacts: Sequence[Artifact]) -> Tile:
    """Of the fastest that passed; where none did, of the fastest."""
    label = f"Speed gained{_by_int8(artifacts, 'by')}"
    with_ratio = [one for one in artifacts if one["latency_ratio"] and one["latency_ms"]]
    if with_ratio:
        best = min(with_ratio, key=lambda one: float(one["latency_ratio"]["median"]))
        ratio = best["latency_ratio"]["median"]
        whole = best["latency_ms"]["whole"]["p50_ms"]
        least = max(one["latency_ratio"]["median"] for one in with_ratio)
        which = f"; the most of {len(with_ratio)}" if len(with_ratio) > 1 else ""
        note = (
            f"as fast as fp32 in the same runtime{which}, {best['name']}: {whole:.3g} ms a"
            f" picture{_failed(best)}"
        )
        tone: Tone = "warn" if ratio > 1 else ""
        return Tile(label, _range(1 / least, 1 / ratio, ".2f", "×"), note, ratio, tone)
    timed = _preferred([one for one in artifacts if one["latency_ms"]])
    if not timed:
        return Tile(label, NOTHING, "nothing was timed")
    best = min(timed, key=lambda one: float(one["latency_ms"]["whole"]["p50_ms"]))
    whole = best["latency_ms"]["whole"]["p50_ms"]
    return Tile("Time", f"{whole:.3g} ms", f"a picture, median: {best['name']}{_failed(best)}", whole)


def _size(artifacts: Sequence[Artifact]) -> Tile:
    label = "Smallest model" + " that passed" * (not all(one["passed"] for one in artifacts))
    if not artifacts:
        return Tile(label, NOTHING, "nothing was measured")
    best = min(_preferred(artifacts), key=lambda one: int(one["bytes"]))
    largest = max(one["bytes"] for one in artifacts)
    part = f", {100 * best['bytes'] / largest:.0f} % of the largest" if largest > best["bytes"] else ""
    return Tile(label, f"{best['bytes'] / 1e6:.2f} MB", f"{best['file']}{part}{_failed(best)}", best["bytes"])


def _preferred(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Those that passed, where any did: what cannot be shipped has gained nothing."""
    return [one for one in artifacts if one["passed"]] or list(artifacts)


def _failed(one: Artifact) -> str:
    return "" if one["passed"] else ", which failed"


def _count(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _all_of(count: int) -> str:
    return "The exported model finds" if count == 1 else f"All {count} exported models find"


def _range(low: float, high: float, form: str, unit: str) -> str:
    """`98.7 to 101.3 %`; `98.7 %` where both read alike."""
    ends = dict.fromkeys((format(low, form), format(high, form)))
    return f"{' to '.join(ends)} {unit}"


def _by_int8(artifacts: Sequence[Artifact], word: str) -> str:
    return f" {word} int8" if any(one["precision"] == "int8" for one in artifacts) else ""


def _reference_ran(document: Mapping[str, Any]) -> str:
    """In what the reference ran: `torch`."""
    return str(document["reference"]["name"].rpartition(" in ")[2])
