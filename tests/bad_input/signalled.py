"""Run verbs that a signal ends, each in a process of its own, and say how they ended.

    python -m tests.bad_input.signalled < cases.json > results.json

case    folder, argv, the line on stderr to wait for, seconds to wait after it, number of the signal
result  exit code, lines on stderr

Processes are forked from this one, which has imported torch already: a case takes a second instead of five.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from fcos_edge.cli import main
from fcos_edge.quantize.formats import format_names, load_writer
from fcos_edge.train import checkpoint


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write_end, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.close(read_end)
        os.chdir(case["folder"])
        # Ignored behind a shell's `&`, and so in a test run that was started there.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = 70
        try:
            code = main(case["argv"])
        finally:
            os._exit(code)
    os.close(write_end)
    lines = []
    with open(read_end) as stream:
        for line in stream:
            lines.append(line.rstrip("\n"))
            if lines[-1] == case["line"]:
                time.sleep(case["seconds"])
                os.kill(child, case["number"])
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "lines": lines}


if __name__ == "__main__":
    # Imported, not used: what every child needs, and nothing that starts threads.
    assert checkpoint.HEADER_KEY
    for name in format_names():
        load_writer(name)
    json.dump([run_case(case) for case in json.load(sys.stdin)], sys.stdout)
