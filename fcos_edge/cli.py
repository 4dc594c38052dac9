"""The command line: find the verb, run it, and make one line and an exit code of what went wrong.

0    fine
1    a check was run and failed
2    the user's mistake, one line on stderr
130  interrupted with Ctrl-C
143  ended by SIGTERM, as a supervisor or `kill` does; what is half-written goes as with Ctrl-C
141  whoever read our output has gone (`fcos-edge inspect ... | head`)

A verb is a file in `commands/`. Every verb has `--json`: results on stdout, everything else on stderr.
Here nothing is imported that a verb may not need: `--help` waits for no runtime.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import pkgutil
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn, Protocol, cast

from fcos_edge import __version__, commands
from fcos_edge.errors import FcosEdgeError
from fcos_edge.writing import REFUSALS

PROGRAM = "fcos-edge"
USER_MISTAKE, INTERRUPTED, BROKEN_PIPE, TERMINATED = 2, 130, 141, 143
_SIGNALS = {signal.SIGINT: ("interrupted", INTERRUPTED), signal.SIGTERM: ("terminated", TERMINATED)}


class Command(Protocol):
    """What a file in `commands/` holds; a trailing underscore keeps a name from being a keyword.

    It may also hold EXTRA, the extra of fcos-edge that it needs; "export" where it says nothing.
    """

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int:
        """Returns the exit code. Raises FcosEdgeError for the user's mistakes."""
        ...


class _SignalError(Exception):
    """A verb was ended by a signal, the key of _SIGNALS."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments on one line, as every other mistake is said."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_MISTAKE, f"{PROGRAM}: {_one_line(message)}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; `argv` is without the program's name. Returns the exit code."""
    _open_closed_streams()
    _print_any_name()
    try:
        with _ended_by_signals():
            code = _run(argv)
        sys.stdout.flush()
        return code
    except FcosEdgeError as error:
        return _fail(str(error), error.exit_code)
    except _SignalError as end:
        return _fail(*_SIGNALS[end.args[0]])
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror}; make room there, or choose another place", USER_MISTAKE)


def command_names() -> tuple[str, ...]:
    """The verbs: the files in `commands/`."""
    return tuple(sorted(module.name.rstrip("_") for module in pkgutil.iter_modules(commands.__path__)))


def make_parser() -> argparse.ArgumentParser:
    """The parser of all verbs; `args.command` of what it parses is the verb's module.

    `args.command_line` is what was typed, where `main` parsed it.
    """
    parser = _Parser(
        prog=PROGRAM,
        description="FCOS detectors from training to verified int8 on ONNX Runtime, OpenVINO and TFLite.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda module: module.name):
        command = cast(Command, importlib.import_module(f"{commands.__name__}.{module.name}"))
        summary = command.SUMMARY
        verb = verbs.add_parser(
            module.name.rstrip("_"), help=summary, description=f"{summary[0].upper()}{summary[1:]}.",
            allow_abbrev=False,
        )  # fmt: skip
        command.add_arguments(verb)
        verb.add_argument("--json", action="store_true", help="print the result as JSON")
        verb.set_defaults(command=command)
    return parser


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = make_parser().parse_args(argv)
        args.command_line = shlex.join([PROGRAM, *(sys.argv[1:] if argv is None else argv)])
    except SystemExit as end:  # --help, --version, wrong arguments
        return end.code if isinstance(end.code, int) else 0
    command: Command = args.command
    try:
        return command.run(args)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", __package__):
            raise
        extra = getattr(command, "EXTRA", "export")
        return _fail(f"{package} is not installed; run: pip install 'fcos-edge[{extra}]'", USER_MISTAKE)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM becomes a KeyboardInterrupt, as Ctrl-C does: who cleans up after one does so after both.

    Where C++ stands between two functions of Python, as in OpenVINO's converter, the interrupt arrives as
    a RuntimeError, and in the import of a C extension as an ImportError, of which others make errors of
    ours; it is an interrupt all the same.
    """
    received: list[int] = []

    def interrupt(number: int, frame: object) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()  # no other may set handlers
    # What is ignored, as Ctrl-C is behind a shell's `&`, stays so.
    usual = (signal.default_int_handler, signal.SIG_DFL)
    numbers = [number for number in _SIGNALS if is_main and signal.getsignal(number) in usual]
    handlers = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        # A verb that ends well after an interrupt, as a camera's does, may still find a mistake.
        if received and (not isinstance(error, FcosEdgeError) or _stems_from_interrupt(error)):
            raise _SignalError(received[0]) from None
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _stems_from_interrupt(error: BaseException) -> bool:
    links = [error]
    while (before := links[-1].__cause__ or links[-1].__context__) is not None and before not in links:
        links.append(before)
    name = KeyboardInterrupt.__name__
    return any(isinstance(link, KeyboardInterrupt) or name in str(link) for link in links)


def _fail(message: str, exit_code: int) -> int:
    # What stands on stdout came first.
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    with contextlib.suppress(OSError):  # stderr is on the full disk, too: the exit code still says it
        print(f"{PROGRAM}: {_one_line(message)}", file=sys.stderr, flush=True)
    return exit_code


def _one_line(message: str) -> str:
    return " ".join(message.splitlines())


def _open_closed_streams() -> None:
    """Started with `>&-`, as some supervisors do, Python has None for stdout: what is said goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until the process ends)


def _print_any_name() -> None:
    """File and class names may hold what the terminal's encoding has not: show it escaped, do not fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Nobody reads stdout any more; without this the interpreter complains when it flushes at its end."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: stdout is no file, as in a test
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
