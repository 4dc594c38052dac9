"""A worker: a child process that is asked, and that may crash or hang without harm to anyone else."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import fcos_edge
from fcos_edge.cache import VARIABLE
from fcos_edge.errors import RuntimeUnavailableError, UsageError
from fcos_edge.runtime import find_runtime, runtime_names
from fcos_edge.workers.variants import Interpreter, this_interpreter

TIMEOUT_S = 300.0
_CHILD = "fcos_edge.workers.child"


class WorkerError(Exception):
    """What became of a worker: one line."""


class LostWorkerError(WorkerError):
    """It crashed, ended or was ended; no other call may follow."""


class Worker:
    """A child process (child.py), from the first `call` to `close`."""

    def __init__(
        self,
        python: str = sys.executable,
        timeout_s: float = TIMEOUT_S,
        module: str = _CHILD,
        cache: Path | None = None,
    ) -> None:
        """python: an interpreter that has fcos-edge; timeout_s: of each answer; module: that it runs.

        cache: where runtimes keep what they make of models (cache.py), None: where they always do

        Raises OSError where `python` is no program.
        """
        self._timeout_s = timeout_s
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._unread = b""
        try:
            self._process = subprocess.Popen(
                [python, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                # Python looks for modules in the working folder first: one where there are none.
                cwd=os.sep,
                env=_environment(python, cache),
            )
        except OSError:
            self._stderr.close()
            raise

    def call(self, op: str, **arguments: Any) -> dict[str, Any]:
        """The answer of operation `op`.

        Raises WorkerError where the child refuses, LostWorkerError where it crashes, does not answer in
        time, or answers something else.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:  # it is gone, and so is its end of the pipe
            raise LostWorkerError(self._why_ended()) from None
        line = self._read_line()
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not answer.keys() & {"ok", "error"}:
            self._process.kill()
            raise LostWorkerError(f"answered {line[:60]!r}, which is no answer, and was ended")
        if "error" in answer:
            raise WorkerError(answer["error"])
        result: dict[str, Any] = answer["ok"]
        return result

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was not yet sent has nobody to read it
                    continue

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        end = time.monotonic() + self._timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                left_s = end - time.monotonic()
                # Also what says more and more without an end.
                if left_s <= 0 or not selector.select(left_s):
                    self._process.kill()
                    raise LostWorkerError(f"did not answer for {self._timeout_s:g} s and was ended")
                block = os.read(descriptor, 1 << 20)
                if not block:
                    raise LostWorkerError(self._why_ended())
                self._unread += block
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _why_ended(self) -> str:
        """`crashed with SIGSEGV`, or the last thing that it said."""
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"crashed with {name}"
        said = lines[-1].strip() if lines else "it said nothing"
        return f"ended by itself with exit code {code}: {said[:300]}"


def open_interpreter(name: str, python: Path) -> Interpreter:
    """The interpreter at `python`, of which the package `name` is wanted.

    Raises RuntimeUnavailableError where it is no Python, lacks fcos-edge, or lacks the package.
    """
    install = f"run: {python} -m pip install 'fcos-edge[{name}]'"
    try:
        # As it was given: a virtual environment's Python is a link, and resolved it is another one.
        with Worker(os.path.abspath(python), timeout_s=60) as worker:
            hello = worker.call("hello")
    except OSError as error:
        raise RuntimeUnavailableError(
            f"--python {name}={python}: {error.strerror}; give the path of a Python that has {name}"
        ) from None
    except WorkerError as error:
        raise RuntimeUnavailableError(f"--python {name}={python}: {error}; {install}") from None
    if hello["fcos_edge"] != fcos_edge.__version__:
        raise RuntimeUnavailableError(
            f"--python {name}={python}: has fcos-edge {hello['fcos_edge']}, this is {fcos_edge.__version__};"
            " install the same release there"
        )
    having = {runtime: package for runtime, package in hello["packages"].items() if package == name}
    if not having:
        others = ", ".join(hello["packages"].values()) or "no runtime"
        raise RuntimeUnavailableError(f"--python {name}={python}: has {others}, not {name}; {install}")
    return Interpreter(os.path.abspath(python), having)


def open_interpreters(pythons: Sequence[tuple[str, Path]]) -> list[Interpreter]:
    """Those that were named for a package, which goes before this interpreter's own; then this one.

    Raises UsageError for a package that no runtime has, or that is named twice, and what `open_interpreter`
    raises.
    """
    known = [package.replace("_", "-") for name in runtime_names() for package in find_runtime(name).PACKAGES]
    named: set[str] = set()
    for package, python in pythons:
        if package not in known:
            raise UsageError(
                f"--python {package}={python}: no runtime has the package {package}, they have"
                f" {', '.join(known)}"
            )
        if package in named:
            raise UsageError(f"--python {package}={python}: {package} has a Python already; name one of them")
        named.add(package)
    return [*(open_interpreter(package, python) for package, python in pythons), this_interpreter()]


def _environment(python: str, cache: Path | None) -> dict[str, str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if cache is not None:
        environment[VARIABLE] = str(cache)
    if python == sys.executable:
        # Where this package was found by other means than an installation. Last: nothing there goes first.
        folder = str(Path(fcos_edge.__file__).parent.parent)
        paths = [path for path in (environment.get("PYTHONPATH"), folder) if path]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment
