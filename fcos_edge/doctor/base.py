"""Whether NumPy and OpenCV work: nothing else can without them.

Tried in a process of its own, as runtimes are: a build for another CPU ends with SIGILL, and an OpenCV
for desktops is there and cannot be imported where libGL is missing. So nothing here imports them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

# A picture is enlarged, compressed and read again.
_PROGRAM = """
import sys
import numpy as np
import cv2
picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
enlarged = cv2.resize(picture, (8, 8), interpolation=cv2.INTER_NEAREST)
read = cv2.imdecode(cv2.imencode(".png", enlarged)[1], cv2.IMREAD_COLOR)
if not np.array_equal(read[::2, ::2], picture):
    sys.exit("NumPy and OpenCV compute a wrong picture")
"""


def try_base(timeout_s: float) -> str:
    """What is wrong with NumPy or OpenCV, one line; "" where both work."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            # Python looks for modules in the working folder first: one where there are none.
            cwd=os.sep,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return f"importing NumPy and OpenCV took more than {timeout_s:g} s and was ended"
    if done.returncode < 0:
        number = -done.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"importing NumPy and OpenCV crashed with {name}"
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return (
        lines[-1].strip()[:300]
        if lines
        else f"importing NumPy and OpenCV ended with exit code {done.returncode}"
    )
