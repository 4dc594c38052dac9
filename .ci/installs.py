"""What a board gets from `pip install "fcos_edge-*.whl[EXTRA]"`: does it work, how big, how long.

    installs.py here BUNDLE    one new environment per extra, on this machine, by the Python that runs this:
                               downloaded, installed, `verify` and `detect` on the bundle, measured, removed
    installs.py boards         what pip finds for other machines and Pythons, in wheels; nothing is run there.
                               With --download the wheels are fetched and measured, else only named

The versions are the newest that pyproject.toml allows, as on a board: constraints.txt is a workstation's, and
its NumPy 2 excludes tflite-runtime. Where `installs.py here` fails for three extras and works for them with
PIP_CONSTRAINT=constraints.txt before it, a new release is the reason.

MB is a million bytes. Needs no package but pip, 23.1 or newer.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
MAX_WHEEL_BYTES = 10_000_000
# The oldest of the usual systems whose own Python is 3.10 or newer: Ubuntu 22.04 and JetPack 6.
BOARD_GLIBC_MINOR = 35
BOARD_PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# For a slow index; an install takes seconds where it is fast.
TIMEOUT_S = 900
WITHOUT_TORCH = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') and 'torch got in')"


@dataclass(frozen=True)
class Extra:
    """name          in pyproject.toml
    package       the wheel of its runtime
    runtime       what `fcos-edge verify` calls it
    max_python    the last Python that the wheel is made for; None: no last one
    """

    name: str
    package: str
    runtime: str
    max_python: tuple[int, int] | None = None

    def reason_against(self, python: tuple[int, ...]) -> str | None:
        if self.max_python is None or python[:2] <= self.max_python:
            return None
        return f"{self.name} has wheels up to Python {self.max_python[0]}.{self.max_python[1]}"


EXTRAS = (
    Extra("onnx", "onnxruntime", "onnxruntime"),
    Extra("openvino", "openvino", "openvino"),
    Extra("tflite", "ai_edge_litert", "tflite"),
    Extra("tflite-runtime", "tflite_runtime", "tflite", max_python=(3, 11)),
)


class StepError(Exception):
    """A command that failed, with what it printed; or a check that did."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Install fcos-edge as a board would, and measure it.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    here = verbs.add_parser("here", help="on this machine, by this Python, and run")
    here.add_argument("bundle", type=Path, help="a folder that `fcos-edge export --int8` wrote")
    boards = verbs.add_parser("boards", help="for other machines, not run")
    boards.add_argument("--arch", default="aarch64")
    boards.add_argument("--pythons", nargs="+", default=BOARD_PYTHONS, metavar="3.N")
    boards.add_argument("--glibc", type=int, default=BOARD_GLIBC_MINOR, metavar="N", help="the board has 2.N")
    boards.add_argument("--download", action="store_true", help="fetch the wheels and measure them")
    args = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="installs-") as folder:
        wheel = build_wheel(Path(folder))
        if args.verb == "here":
            return report_here(wheel, args.bundle.resolve(), Path(folder))
        return report_boards(wheel, args, Path(folder))


def build_wheel(folder: Path) -> Path:
    run(*pip("wheel", "--no-deps", "--wheel-dir", folder, CHECKOUT))
    (wheel,) = folder.glob("*.whl")
    num_bytes = wheel.stat().st_size
    print(f"{wheel.name}: {megabytes(num_bytes)} MB")
    if num_bytes > MAX_WHEEL_BYTES:
        raise StepError(f"{wheel.name} has {num_bytes} bytes, at most {MAX_WHEEL_BYTES} are allowed")
    return wheel


# --- on this machine


def report_here(wheel: Path, bundle: Path, folder: Path) -> int:
    python = sys.version_info[:2]
    print(f"Python {python[0]}.{python[1]}, {sysconfig.get_platform()}, all files and their bytecode:")
    measured = ("download MB", "installed MB", "download s", "install s", "verify s", "detect s")
    print_row("extra", "runtime", "packages", *measured)
    print_row(*["---"] * 9)
    failures = []
    for extra in EXTRAS:
        if reason := extra.reason_against(python):
            print_row(extra.name, f"skipped: {reason}", *[""] * 7)
            continue
        try:
            print_row(extra.name, *install_and_use(extra, wheel, bundle, folder))
        except StepError as error:
            failures.append(f"{extra.name}: {error}")
    return conclude(failures)


def install_and_use(extra: Extra, wheel: Path, bundle: Path, folder: Path) -> list[object]:
    """An environment for `extra`, used and removed; the cells of its row after the name."""
    with TemporaryDirectory(dir=folder) as place:
        environment, wheels = Path(place, "env"), Path(place, "wheels")
        # In two steps, as for a board without a network; and each is timed without the other.
        wanted = f"{wheel}[{extra.name}]"
        _, download_s = run(*pip("download", "--only-binary=:all:", "--dest", wheels, wanted))
        venv.create(environment, with_pip=False, symlinks=True)
        python = environment / "bin" / "python"
        offline = ("--no-index", "--find-links", wheels)
        _, install_s = run(*pip("--python", python, "install", *offline, f"fcos-edge[{extra.name}]"))
        run(*pip("--python", python, "check"))
        run(python, "-c", WITHOUT_TORCH)
        command = environment / "bin" / "fcos-edge"
        report, verify_s = run(command, "verify", "--json", bundle, cwd=place)
        check_verified(json.loads(report), extra)
        _, detect_s = run(command, "detect", bundle / "golden", "--model", bundle, cwd=place)
        check_detected(Path(place, "detections", "detections.jsonl"))
        names = sorted(path.name for path in wheels.iterdir())
        (site_packages,) = environment.glob("lib/python*/site-packages")
        return [
            version_of(extra, names), len(names),
            megabytes(total_bytes(wheels)), megabytes(total_bytes(site_packages)),
            *(f"{seconds:.1f}" for seconds in (download_s, install_s, verify_s, detect_s)),
        ]  # fmt: skip


def check_verified(report: dict[str, Any], extra: Extra) -> None:
    """`verify` ended well; but had it anything to do?"""
    runtimes = {artifact["runtime"] for artifact in report["artifacts"]}
    if runtimes != {extra.runtime}:
        raise StepError(f"verify ran {sorted(runtimes) or 'nothing'}, expected {extra.runtime}")


def check_detected(path: Path) -> None:
    if not any(json.loads(line)["detections"] for line in path.read_text().splitlines()):
        raise StepError(f"{path.name} has no detection")


# --- on other machines


def report_boards(wheel: Path, args: argparse.Namespace, folder: Path) -> int:
    measured = ("download MB", "unpacked MB") if args.download else ()
    without = " (unpacked: the wheels' files, without bytecode)" if args.download else ""
    print(f"{args.arch} with glibc 2.{args.glibc}{without}:")
    print_row("Python", "extra", "runtime", "packages", "needs glibc", *measured)
    print_row(*["---"] * (5 + len(measured)))
    empty = [""] * (2 + len(measured))
    failures = []

    def row(python: str, extra: Extra) -> list[object]:
        if reason := extra.reason_against(tuple(map(int, python.split(".")))):
            return [python, extra.name, f"none: {reason}", *empty]
        try:
            with TemporaryDirectory(dir=folder) as place:
                return [python, extra.name, *find_wheels(extra, python, wheel, args, Path(place))]
        except StepError as error:
            failures.append(f"{args.arch}, Python {python}, {extra.name}: {error}")
            return [python, extra.name, "FAILED", *empty]

    cases = itertools.product(args.pythons, EXTRAS)
    with ThreadPoolExecutor(2) as pool:  # half of it is waiting for the index
        for cells in pool.map(lambda case: row(*case), cases):
            print_row(*cells)
    return conclude(failures)


def find_wheels(
    extra: Extra, python: str, wheel: Path, args: argparse.Namespace, place: Path
) -> list[object]:
    """The cells of a row after the name.

    pip answers markers, and `install` also Requires-Python, for the Python that runs it. So what is found
    for a newer Python may be a little older than what pip takes there; run this by that Python to be exact.
    """
    platforms = [f"manylinux_2_{minor}_{args.arch}" for minor in range(args.glibc, 16, -1)]
    platforms += [f"manylinux2014_{args.arch}", f"linux_{args.arch}"]
    options: list[object] = ["--only-binary=:all:", "--implementation=cp", "--python-version", python]
    options += [f"--platform={platform}" for platform in platforms]
    wanted = f"{wheel}[{extra.name}]"
    sizes = []
    if args.download:
        run(*pip("download", *options, "--dest", place, wanted))
        names = sorted(path.name for path in place.iterdir())
        sizes = [megabytes(total_bytes(place)), megabytes(sum(map(unpacked_bytes, place.iterdir())))]
    else:
        report = place / "report.json"
        target = ("--target", place / "nothing")  # pip wants one; nothing is written
        run(*pip("install", "--dry-run", "--ignore-installed", *target, "--report", report, *options, wanted))
        installs = json.loads(report.read_text())["install"]
        names = sorted(Path(install["download_info"]["url"]).name for install in installs)
    return [version_of(extra, names), len(names), f"2.{max(map(glibc_minor, names))}", *sizes]


def glibc_minor(wheel_name: str) -> int:
    """`x-1.0-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl` -> 27; 0 where none is needed."""
    legacy = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}
    minors = []
    for tag in wheel_name.removesuffix(".whl").split("-")[-1].split("."):
        kind, *rest = tag.split("_")
        if kind == "manylinux":
            minors.append(int(rest[1]))
        else:
            minors.append(legacy.get(kind, 0))
    return min(minors)


# --- for both


def version_of(extra: Extra, wheel_names: Iterable[str]) -> str:
    """`onnxruntime 1.23.2`. A runtime that is missing is an error: pip passes over an extra that is empty."""
    for name in wheel_names:
        package, version, *_ = name.split("-")
        if package == extra.package:
            return f"{package.replace('_', '-')} {version}"
    raise StepError(f"{extra.package} is not among {', '.join(wheel_names)}")


def total_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def unpacked_bytes(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(info.file_size for info in archive.infolist())


def megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f}" if num_bytes < 10e6 else f"{num_bytes / 1e6:.0f}"


def pip(*arguments: object) -> list[object]:
    return [sys.executable, "-m", "pip", *arguments]


def run(*command: object, cwd: str | None = None) -> tuple[str, float]:
    """What a command printed, and the seconds it took. Raises StepError with all its output if it fails."""
    # A board has nothing of this process's Python around it. pip's own settings stay: they name the index.
    python_names = ("PYTHON", "VIRTUAL_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(python_names)}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1"}  # quiet: warnings and errors
    environment["FCOS_EDGE_CACHE"] = ""  # nothing from an earlier run, nothing left behind
    words = [str(word) for word in command]
    begin = time.monotonic()
    try:
        done = subprocess.run(
            words, cwd=cwd, env=environment, text=True, capture_output=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise StepError(f"{' '.join(words)}\nnot done after {TIMEOUT_S} s") from None
    seconds = time.monotonic() - begin
    if done.returncode != 0:
        output = f"{done.stdout}{done.stderr}".rstrip()
        raise StepError(f"{' '.join(words)}\nended with {done.returncode}\n{output}")
    return done.stdout, seconds


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def conclude(failures: Sequence[str]) -> int:
    for failure in failures:
        print(f"\nFAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StepError as error:
        sys.exit(f"FAILED {error}")
