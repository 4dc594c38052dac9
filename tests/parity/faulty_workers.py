"""Programs in the place of Python that run a worker with a fault in it, and who their children are."""

from __future__ import annotations

import os
import sys
from multiprocessing import resource_tracker
from pathlib import Path

import fcos_edge

# {body} may change `child.Child`, whose methods are what a worker can do; `real` is the unharmed one.
_PROGRAM = """
import os, signal, sys, time
import numpy as np
from fcos_edge.runtime import Branch, RawOutputs
from fcos_edge.workers import child

class real(child.Child):
    calls = 0

class Faulty(real):
{body}

child.Child = Faulty
child.main()
"""

CRASH_WHILE_LOADING = """
    def do_load(self, **arguments):
        os.kill(os.getpid(), signal.SIGSEGV)
"""
CRASH_IN_THE_SECOND_BLOCK = """
    def do_detect(self, **arguments):
        self.calls += arguments.get("perturbation") is None
        if self.calls == 2:
            os.kill(os.getpid(), signal.SIGABRT)
        return super().do_detect(**arguments)
"""
HANG_IN_THE_SECOND_BLOCK = CRASH_IN_THE_SECOND_BLOCK.replace("SIGABRT", "SIGSTOP")
CRASH_WHILE_TIMED = """
    def do_slice(self, **arguments):
        self.calls += 1
        if self.calls == 4:
            raise MemoryError("no room")
        return super().do_slice(**arguments)
"""
NOT_A_NUMBER = """
    def do_load(self, **arguments):
        answer = super().do_load(**arguments)
        network = self._network
        class Nonsense:
            def run(self, images):
                raw = network.run(images)
                nothing = [Branch(np.full(one.values.shape, np.nan, np.float32)) for one in raw]
                return RawOutputs(*nothing)
        self._network = Nonsense()
        return answer
"""
WRONG_SHAPES = NOT_A_NUMBER.replace("one.values.shape", "(1, 2, *one.values.shape[2:])")
REFUSES_TO_LOAD = """
    def do_load(self, **arguments):
        from fcos_edge.errors import ArtifactError
        raise ArtifactError("model: is of another world; export again")
"""


def write_worker(path: Path, body: str) -> str:
    """The path of a program that is started as a Python would be."""
    script = path.with_suffix(".py")
    script.write_text(_PROGRAM.replace("{body}", body))
    root = Path(fcos_edge.__file__).parent.parent
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" "{script}"\n')
    path.chmod(0o755)
    return str(path)


def children_of(pid: int) -> set[int]:
    """Processes that `pid` started and that still run. Linux."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name may hold anything but ends with the last ")": state, parent, ...
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if int(parent) == pid and state != "Z":
            found.add(int(stat.parent.name))
    return found


def own_children() -> set[int]:
    """Without the tracker that multiprocessing starts at its first use in a process, and keeps."""
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    return children_of(os.getpid()) - {tracker}
