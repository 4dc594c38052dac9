"""The report as a person reads it in a terminal: tables, then the verdict in words."""

from __future__ import annotations

from fcos_edge.console import print_table
from fcos_edge.parity.artifact import ArtifactParity
from fcos_edge.parity.report import ParityReport

_WORST_PICTURES = 5
_FAILED_NAMES = 1  # in the table; all failures follow it, a line each


def print_report(report: ParityReport) -> None:
    """Everything that decides, worst things last."""
    data = report.data
    print(f"{data['pictures']} pictures, {data['boxes']} boxes of {data['name']}; reference: {report.why}")
    if seen := data["calibrated_on"]:
        print(f"warning: int8 was calibrated on {seen} of them, where it looks better than it is")
    print()
    header = (
        "artifact",
        "AP",
        "change",
        "95 % interval",
        "partners",
        "ms",
        "int8/fp32",
        "peak MiB",
        "result",
    )
    print_table(header, [_row(one) for one in report.artifacts])
    figures = report.reference_accuracy.figures
    notes = [f"reference: AP {figures['AP']:.4f}, AP50 {figures['AP50']:.4f}"]
    if report.noise is not None and (rate := report.noise.agreement.detections.both.rate) is not None:
        notes.append(
            f"with an input noise of one grey level, {100 * rate:.1f} % of its detections have a partner"
        )
    print("\n" + "; ".join(notes))
    print(
        "change: against the reference; partners: detections of either that the other has, too;"
        " ms: median of a picture"
    )
    _print_classes(report)
    _print_worst(report)
    for one in report.artifacts:
        if one.latency_ratio is not None and one.latency_ratio.median > 1:
            print(f"\n{one.name}: int8 is slower than fp32 here; `fcos-edge doctor` says what this CPU has")
    if report.skipped:
        print(f"\nnot run, no runtime for them here: {', '.join(report.skipped)}")
    if report.baseline is not None:
        print(f"\nbeside {report.baseline['file']}: {_count(len(report.baseline['compared']))} compared")
        for what, names in (("not here any more", "only_there"), ("not there yet", "only_here")):
            if report.baseline[names]:
                print(f"{what}: {', '.join(report.baseline[names])}")
    _print_not_judged(report)
    print()
    if report.passed:
        print(f"passed: {_count(len(report.artifacts))}")
        return
    for line in report.failures:
        print(f"FAILED {line}")


def _row(one: ArtifactParity) -> tuple[object, ...]:
    failed = [gate.name for gate in one.failed]
    more = f" and {len(failed) - _FAILED_NAMES} more" if len(failed) > _FAILED_NAMES else ""
    result = f"FAILED: {', '.join(failed[:_FAILED_NAMES])}{more}" if failed else "passed"
    if one.accuracy is None or one.difference is None:
        return (one.name, *[None] * 7, result)
    change = one.difference.figures["AP"]
    interval = ""
    if change is not None and change.interval_95 is not None:
        interval = "{:+.3f} .. {:+.3f}".format(*change.interval_95)
    rate = one.agreement.detections.both.rate if one.agreement is not None else None
    ap = one.accuracy.figures["AP"]
    return (
        one.name, f"{ap:.4f}" if ap >= 0 else "", f"{change.value:+.4f}" if change else "", interval,
        "" if rate is None else f"{100 * rate:.1f} %", one.latency and one.latency["whole"].p50_ms,
        one.latency_ratio and one.latency_ratio.median, one.run.memory_mib.get("peak"),
        result,
    )  # fmt: skip


def _print_classes(report: ParityReport) -> None:
    """Each class with what it loses in the artifact that loses most."""
    measured = [one for one in report.artifacts if one.difference is not None]
    rows = []
    for index, row in enumerate(report.reference_accuracy.classes):
        changes = [(one, one.difference.classes[index]) for one in measured if one.difference is not None]
        aps = [(change.ap.value, one.name) for one, change in changes if change.ap is not None]
        misses = [
            (change.miss_rate.value, one.name) for one, change in changes if change.miss_rate is not None
        ]
        if not aps:
            continue
        drop, where = min(aps)
        increase, _ = max(misses)
        rows.append((
            row.name, row.boxes, f"{row.ap:.4f}", f"{drop:+.4f}", f"{row.miss_rate:.3f}", f"{increase:+.3f}",
            where if drop < 0 else "",
        ))  # fmt: skip
    if not rows:
        return
    print("\nper class, the largest loss of any artifact")
    print_table(("class", "boxes", "AP", "change", "missed", "change", "least AP in"), rows)
    if absent := [row.name for row in report.reference_accuracy.classes if not row.boxes]:
        print(f"no boxes: {', '.join(absent)}")


def _print_not_judged(report: ParityReport) -> None:
    """A gate that had too little to judge by passed nobody: it says why."""
    reasons: dict[str, list[str]] = {}
    for gate in (gate for one in report.artifacts for gate in one.gates if not gate.is_judged):
        names = reasons.setdefault(gate.why, [])
        if gate.name not in names:
            names.append(gate.name)
    if reasons:
        print("\nnot judged: " + "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items()))


def _count(artifacts: int) -> str:
    return "1 artifact" if artifacts == 1 else f"{artifacts} artifacts"


def _print_worst(report: ParityReport) -> None:
    worst = [
        (picture.unmatched, picture.drift, report.picture_names[picture.picture], one.name)
        for one in report.artifacts
        for picture in one.worst
    ]
    worst.sort(key=lambda row: (-row[0], -row[1], row[2], row[3]))
    if worst:
        print("\npictures that differ most from the reference")
        header = ("picture", "without a partner", "score change", "artifact")
        print_table(
            header, [(file, count, drift, name) for count, drift, file, name in worst[:_WORST_PICTURES]]
        )
