"""The command line in a process of its own: under limits, in a file system of its own, killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPO_ROOT

# What a verb says on its way. TFLite has a voice of its own.
NOTES = (
    "model: ",
    "folding ",
    "writing ",
    "running ",
    "verifying ",
    "wrote ",
    "calibrating ",
    "int8 is meant for ",
    "INFO: ",
)


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    complaints  the lines on stderr that are no notes
    """

    code: int
    out: str
    complaints: tuple[str, ...]


# Under a shell's `&` SIGINT is ignored, and a test run may have been started so.
VERB = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from fcos_edge.cli import main; sys.exit(main(sys.argv[1:]))"
)


def verb(*argv: str) -> list[str]:
    """The command of one verb."""
    return [sys.executable, "-c", VERB, *argv]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO_ROOT)}


def run(command: Sequence[str], folder: Path) -> Ended:
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)
    complaints = tuple(line for line in done.stderr.splitlines() if not line.startswith(NOTES))
    return Ended(done.returncode, done.stdout, complaints)


def with_limit(file_bytes: int, command: Sequence[str]) -> list[str]:
    """`command` where no file may become larger: writing on fails with EFBIG."""
    code = (
        "import os, resource, sys; limit = int(sys.argv[1]);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)); os.execv(sys.argv[2], sys.argv[2:])"
    )
    return [sys.executable, "-c", code, str(file_bytes), *command]


def without_rights(command: Sequence[str]) -> list[str]:
    """`command` so that the permissions of files bind it, even where the tests run as root."""
    if os.geteuid() != 0:
        return list(command)
    # Root's right to pass over permissions, taken from what the next program may have: CAP_DAC_OVERRIDE,
    # CAP_DAC_READ_SEARCH, CAP_FOWNER.
    code = (
        "import ctypes, os, sys; drop = 24; libc = ctypes.CDLL(None, use_errno=True);"
        "[libc.prctl(drop, right, 0, 0, 0) for right in (1, 2, 3)]; os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", code, *command]


def in_mounts(mounts: str, command: Sequence[str], after: str = "") -> list[str]:
    """`command` in a mount namespace of its own, between `mounts` and `after`, shell lines both."""
    script = f'{mounts}\n"$@"\ncode=$?\n{after}\nexit $code'
    return [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-ec",
        f"set +e\n{script}",
        "sh",
        *command,
    ]


def needs_mounts(mounts: str, folder: Path) -> None:
    """Skip the test where this machine lets nobody mount."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of util-linux")
    done = subprocess.run(
        in_mounts(f"{mounts} || exit 99", ["true"]), cwd=folder, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
