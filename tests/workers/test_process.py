"""A worker that does as it is told, and children that do not: programs in the place of Python."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

import fcos_edge
from fcos_edge.errors import RuntimeUnavailableError
from fcos_edge.workers.process import Worker, WorkerError, open_interpreter


def write_program(path: Path, body: str) -> str:
    """A program that is started as a Python would be; its first line of input is in $request."""
    path.write_text(f"#!/bin/sh\nread request\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_worker__answers_one_request_after_another() -> None:
    with Worker() as worker:
        hello = worker.call("hello")
        assert hello["fcos_edge"] == fcos_edge.__version__
        assert hello["packages"]["onnxruntime"] == "onnxruntime"
        assert worker.call("hello") == hello


def test_worker__a_refusal_is_one_line_and_the_child_goes_on(tmp_path: Path) -> None:
    with Worker() as worker:
        arguments = {"path": str(tmp_path / "no.onnx"), "runtime": "onnxruntime", "threads": 1}
        with pytest.raises(WorkerError, match=r"no\.onnx: no such file or folder"):
            worker.call("load", **arguments)
        assert worker.call("hello")


def test_worker__our_own_mistake_ends_it_and_is_said() -> None:
    with Worker() as worker:
        with pytest.raises(WorkerError, match=r"ended by itself with exit code 1: AttributeError.*do_dance"):
            worker.call("dance")
        with pytest.raises(WorkerError, match="ended by itself"):  # and it stays gone
            worker.call("hello")


@pytest.mark.parametrize(("body", "said"), [
    ("kill -SEGV $$", "crashed with SIGSEGV"),
    ("kill -KILL $$", "crashed with SIGKILL"),
    ("echo something; echo the reason >&2; exit 3", "answered b'something'"),
    ("echo first >&2; echo the reason >&2; exit 3", "ended by itself with exit code 3: the reason"),
    ("exit 0", "ended by itself with exit code 0: it said nothing"),
    ("echo '[1]'", r"answered b'\[1\]', which is no answer"),
    ("echo '{}'", "answered b'{}', which is no answer"),
    ("sleep 60", "did not answer for 0.5 s and was ended"),
    ("while :; do printf more; done", "did not answer for 0.5 s and was ended"),
    # What libraries print goes before the answer on another way: a line of stderr is no answer.
    ("echo '{\"ok\": {}}' >&2; exit 4", "exit code 4"),
])  # fmt: skip
def test_worker__what_became_of_the_child_is_one_line(body: str, said: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with (
        Worker(write_program(tmp_path / "python", body), timeout_s=0.5) as worker,
        pytest.raises(WorkerError, match=said) as caught,
    ):
        worker.call("hello")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 30  # nobody waited for its sleep


def test_worker__what_is_printed_is_no_answer(tmp_path: Path) -> None:
    # As libraries print: through Python, and past it.
    script = tmp_path / "start.py"
    script.write_text(
        "import os\n"
        "from fcos_edge.workers import child\n"
        "class Printing(child.Child):\n"
        "    def do_hello(self):\n"
        "        print('a banner', flush=True)\n"
        "        os.write(1, b'and one from C\\n')\n"
        "        return {'packages': {}}\n"
        "child.Child = Printing\n"
        "child.main()\n"
    )
    root = Path(fcos_edge.__file__).parent.parent
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" "{script}"\n')
    python.chmod(0o755)
    with Worker(str(python)) as worker:
        assert worker.call("hello") == {"packages": {}}
        assert worker.call("memory").keys() == {"now_mib", "peak_mib"}


def test_open_interpreter__finds_what_it_can_run(tmp_path: Path) -> None:
    root = Path(fcos_edge.__file__).parent.parent
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    interpreter = open_interpreter("openvino", python)
    assert (interpreter.python, interpreter.packages) == (str(python), {"openvino": "openvino"})


@pytest.mark.parametrize(("body", "said"), [
    (None, "No such file or directory; give the path of a Python that has tflite-runtime"),
    ("echo garbage", "answered b'garbage'"),
    ("echo \"No module named 'fcos_edge'\" >&2; exit 1",
     "No module named 'fcos_edge'; run: .* -m pip install 'fcos-edge.tflite-runtime.'"),
    ('echo \'{"ok": {"fcos_edge": "0.0.1", "packages": {}}}\'', "has fcos-edge 0.0.1, this is"),
    (f'echo \'{{"ok": {{"fcos_edge": "{fcos_edge.__version__}", "packages": {{"openvino": "openvino"}}}}}}\'',
     "has openvino, not tflite-runtime; run: "),
    (f'echo \'{{"ok": {{"fcos_edge": "{fcos_edge.__version__}", "packages": {{}}}}}}\'',
     "has no runtime, not tflite-runtime; run: "),
])  # fmt: skip
def test_open_interpreter__says_what_is_wrong(body: str | None, said: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    if body is not None:
        write_program(python, body)
    with pytest.raises(RuntimeUnavailableError, match=said) as caught:
        open_interpreter("tflite-runtime", python)
    assert str(caught.value).startswith(f"--python tflite-runtime={python}: ")
    assert "\n" not in str(caught.value)
