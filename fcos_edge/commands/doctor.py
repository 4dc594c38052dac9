"""`fcos-edge doctor`: what is installed and works here, what the CPU can do, what int8 is worth.

Exit code 0 where at least one runtime is installed and all that are installed work, else 1: a broken one may
be the one that `load` takes.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fcos_edge import __version__
from fcos_edge.console import print_json, print_table

if TYPE_CHECKING:
    from fcos_edge.doctor.report import DoctorReport

SUMMARY = "what is installed and works here, and what int8 is worth"

_TIMEOUT_S = 60.0  # of each step; a slow board takes seconds
_TIMING_S = 1.5  # of each runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=_TIMEOUT_S,
        metavar="S",
        help="seconds after which a runtime that does not answer is broken (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    from fcos_edge.doctor.advice import runtime_sentences, verdict
    from fcos_edge.doctor.report import examine

    report = examine(args.timeout, _TIMING_S)
    lines = [line for runtime in report.runtimes for line in runtime_sentences(runtime, report.conditions)]
    if args.json:
        print_json({**report.to_dict(), "advice": lines, "verdict": verdict(report)})
    else:
        _print_machine(report)
        _print_extras(report)
        _print_runtimes(report)
        for line in (*lines, "", *verdict(report)):
            print(line)
    return 0 if report.passed else 1


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _print_machine(report: DoctorReport) -> None:
    from fcos_edge.conditions import describe_conditions

    print(f"fcos-edge {__version__}, {report.conditions['system']}")
    # The second line has versions, which come below.
    print(describe_conditions(dict(report.conditions))[0])
    print(f"CPU features: {', '.join(report.features) or 'the system does not tell'}")
    if temperatures := report.heat.get("temperature_c"):
        hottest = max(temperatures, key=lambda name: temperatures[name])
        print(f"temperature: {temperatures[hottest]:g} deg C ({hottest})")
    if slowed := report.heat.get("slowed_by"):
        print(f"slowed down now by: {', '.join(slowed)}")
    if accelerators := report.conditions.get("accelerators"):
        print(f"accelerators, which no runtime uses unless --device names them: {', '.join(accelerators)}")


def _print_extras(report: DoctorReport) -> None:
    from fcos_edge.doctor.advice import pip_lines

    print()
    rows = []
    for extra in report.extras:
        if extra.extra.is_runtime and not extra.installed and report.best:
            continue  # one is enough
        installed = ", ".join(f"{name} {number}".rstrip() for name, number in extra.installed.items())
        missing = [*extra.missing, *(f"[{name}]" for name in extra.incomplete)]
        because = f" ({extra.refusal})" if missing and extra.refusal else ""
        cell = f"{', '.join(missing)}{because}"
        rows.append((extra.extra.name, extra.extra.purpose, cell or "-", installed or "-"))
    print_table(("extra", "for", "missing", "installed"), rows)
    for line in pip_lines(report):
        print(line)


def _print_runtimes(report: DoctorReport) -> None:
    if not report.runtimes:
        return
    print()
    rows = []
    for runtime in report.runtimes:
        speed = runtime.speed
        saturates = {True: "saturates", False: "exact", None: "-"}[runtime.saturates]
        figures = ("-",) * 4 if speed is None else (speed.fp32_ms, speed.int8_ms, speed.ratio, speed.calls)
        rows.append((
            runtime.package, runtime.version or "-", "yes" if runtime.works else "NO", *figures, saturates,
            ", ".join(runtime.devices) or "-",
        ))  # fmt: skip
    header = ("runtime", "version", "works", "fp32 ms", "int8 ms", "ratio", "n", "int8 sums", "devices")
    print_table(header, rows)
    print("one thread, a tiny network; `fcos-edge bench` measures your own model")
    print()
