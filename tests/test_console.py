"""What verbs print."""

from __future__ import annotations

import json
import time

import pytest

from fcos_edge import console


def test_print_table__numbers_stand_right(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(("name", "bytes", "ratio"), [("a", 1234567, 0.123456), ("long one", 8, None)])
    assert capsys.readouterr().out.splitlines() == [
        "name          bytes  ratio",
        "a         1,234,567  0.123",
        "long one          8",
    ]


def test_print_table__without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(("name", "bytes"), [])
    assert capsys.readouterr().out == "name  bytes\n"


def test_print_json__nan_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"b": [1, 2.5], "a": "é"})
    assert json.loads(capsys.readouterr().out) == {"a": "é", "b": [1, 2.5]}
    with pytest.raises(ValueError, match="JSON compliant"):
        console.print_json({"a": float("nan")})


def test_track__plain_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(0, 100, 4))  # 4 seconds from look to look
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    assert list(console.track("abcdef", "letters", 6)) == list("abcdef")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["letters: 3 of 6", "letters: 6 of 6"]


def test_track__quick_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(console.track(range(5), "numbers")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""
