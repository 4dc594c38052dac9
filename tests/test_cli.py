"""The command line around its verbs: exit codes, one-line errors, nothing heavy imported too early."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from fcos_edge import __version__, cli
from fcos_edge.errors import ArtifactError, FcosEdgeError, GateError, RuntimeUnavailableError, UsageError
from tests.recordings import write_recording


def _run_with(monkeypatch: pytest.MonkeyPatch, verb: Callable[[argparse.Namespace], int]) -> int:
    """What `main` makes of a verb that does this."""
    command = SimpleNamespace(SUMMARY="do it", add_arguments=lambda parser: None, run=verb)
    parser = argparse.ArgumentParser()
    parser.set_defaults(command=command)
    monkeypatch.setattr(cli, "make_parser", lambda: parser)
    return cli.main([])


def _raise(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def verb(args: argparse.Namespace) -> int:
        raise error

    return verb


@pytest.mark.parametrize(("error", "code", "line"), [
    (FcosEdgeError("x.onnx: broken"), 2, "fcos-edge: x.onnx: broken"),
    (GateError("logits_p3: 0.3 is above 0.1"), 1, "fcos-edge: logits_p3: 0.3 is above 0.1"),
    # However the message came about, it is one line.
    (UsageError("first\nsecond"), 2, "fcos-edge: first second"),
    (KeyboardInterrupt(), 130, "fcos-edge: interrupted"),
    (OSError(errno.ENOSPC, "No space left on device", "out/a.jpg"), 2, "fcos-edge: out/a.jpg: No space left"),
    (ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"), 2,
     "fcos-edge: torch is not installed; run: pip install 'fcos-edge[export]'"),
])  # fmt: skip
def test_main__mistake_is_one_line(
    error: BaseException, code: int, line: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert _run_with(monkeypatch, _raise(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [
    ValueError("ours"),
    OSError(errno.EBADF, "ours"),
    ModuleNotFoundError("No module named 'fcos_edge.nothing'", name="fcos_edge.nothing"),
])  # fmt: skip
def test_main__our_own_mistake_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(type(error)):
        _run_with(monkeypatch, _raise(error))


def _as_it_is(interrupt: KeyboardInterrupt) -> NoReturn:
    raise interrupt


def _through_cpp(interrupt: KeyboardInterrupt) -> NoReturn:
    """As pybind11 does with what a callback raises."""
    raise RuntimeError("KeyboardInterrupt: <EMPTY MESSAGE>") from None


def _in_an_import(interrupt: KeyboardInterrupt) -> NoReturn:
    """As pybind11 does in the import of a C extension, and `runtime.importing` with that."""
    try:
        raise ImportError("initialization failed") from interrupt
    except ImportError as error:
        raise RuntimeUnavailableError("onnxruntime is broken: initialization failed") from error


def _in_a_writer(interrupt: KeyboardInterrupt) -> NoReturn:
    try:
        _through_cpp(interrupt)
    except RuntimeError as error:
        raise ArtifactError("model.onnx: cannot load it") from error


@pytest.mark.parametrize("converted", [_as_it_is, _through_cpp, _in_an_import, _in_a_writer])
@pytest.mark.parametrize(("number", "code", "line"), [
    (signal.SIGINT, 130, "fcos-edge: interrupted\n"),
    (signal.SIGTERM, 143, "fcos-edge: terminated\n"),
])  # fmt: skip
def test_main__signal_ends_the_verb_as_an_interrupt(
    number: signal.Signals, code: int, line: str, converted: Callable[[KeyboardInterrupt], NoReturn],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    seen = []

    def verb(args: argparse.Namespace) -> int:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as interrupt:
            seen.append(interrupt)
            converted(interrupt)
        return 0

    usual: Any = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}[number]
    before = signal.signal(number, usual)
    try:
        assert _run_with(monkeypatch, verb) == code
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)
    assert len(seen) == 1
    assert capsys.readouterr() == ("", line)


def test_main__mistake_after_an_interrupt_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb(args: argparse.Namespace) -> int:
        with contextlib.suppress(KeyboardInterrupt):  # the way to end a camera
            signal.raise_signal(signal.SIGINT)
        raise UsageError("camera0.mp4: cannot be written")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert _run_with(monkeypatch, verb) == 2
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "fcos-edge: camera0.mp4: cannot be written\n"


def test_main__reader_of_stdout_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run_with(monkeypatch, _raise(BrokenPipeError(errno.EPIPE, "Broken pipe"))) == 141
    assert capsys.readouterr().err == ""


def test_main__verbs_exit_code_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run_with(monkeypatch, lambda args: 1) == 1


@pytest.mark.parametrize(("argv", "said"), [
    ([], "the following arguments are required: VERB"),
    (["fly"], "invalid choice: 'fly'"),
    (["detect"], "the following arguments are required: SOURCE"),
    (["detect", "a.jpg", "--treshold", "0.3"], "unrecognized arguments: --treshold 0.3"),
    # Abbreviations would change their meaning with every new option.
    (["detect", "a.jpg", "--thresh", "0.3"], "unrecognized arguments: --thresh 0.3"),
    (["detect", "a.jpg", "--threshold", "1.5"], "'1.5' is no number from 0 to 1"),
    (["detect", "a.jpg", "--threshold", "nan"], "'nan' is no number from 0 to 1"),
    (["detect", "a.jpg", "--threads", "0"], "'0' is no whole number from 1"),
    (["detect", "a.jpg", "--threads", "two"], "'two' is no whole number from 1"),
])  # fmt: skip
def test_main__wrong_arguments_are_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert "--help" in err


def test_version__is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fcos-edge {__version__}\n"


def test_help__names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    files = Path(cli.__file__).parent.joinpath("commands").glob("[a-z]*.py")
    names = {path.stem.rstrip("_") for path in files}
    assert set(cli.command_names()) == names >= {"detect", "inspect"}
    assert all(f"    {name} " in out or f"    {name}\n" in out for name in names)


@pytest.mark.parametrize("verb", cli.command_names())
def test_help__of_every_verb_names_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_help__imports_nothing_heavy() -> None:
    code = (
        "import sys; from fcos_edge.cli import main; main(['--help']);"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(eval(result.stderr))
    heavy = {"torch", "cv2", "numpy", "onnx", "onnxruntime", "openvino", "ai_edge_litert", "tqdm"}
    assert not imported & heavy


def _start(*argv: str, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "fcos_edge", *argv], stderr=subprocess.PIPE, **more)


def test_process__closed_pipe_leaves_no_complaint(tmp_path: Path) -> None:
    model = write_recording(tmp_path / "model.npz")
    read, write = os.pipe()
    os.close(read)
    with _start("inspect", str(model), stdout=write) as process:
        os.close(write)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize(("argv", "streams", "code"), [
    ("inspect model.npz", ">&-", 0),
    ("inspect model.npz", "2>&-", 0),
    ("inspect nothing.onnx", ">&- 2>&-", 2),
    ("inspect nothing.onnx", "2>/dev/full", 2),
    ("fly", "2>/dev/full", 2),
])  # fmt: skip
def test_process__without_streams_keeps_its_exit_code(
    argv: str, streams: str, code: int, tmp_path: Path, repo_root: Path
) -> None:
    if "full" in streams and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, of Linux")
    write_recording(tmp_path / "model.npz")
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m fcos_edge {argv} {streams}', sys.executable],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(repo_root)}, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, b"")


def test_process__odd_file_name_is_printed_escaped() -> None:
    # A file name need not be text, and a terminal need not know its letters.
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    name = b"caf\xc3\xa9-\xff.jpg"
    process = subprocess.run(
        [sys.executable.encode(), b"-m", b"fcos_edge", b"detect", name], capture_output=True, env=environment
    )
    assert process.returncode == 2
    assert process.stderr.startswith(b"fcos-edge: caf")
    assert process.stderr.count(b"\n") == 1
