"""`fcos-edge report` as a user types it; what is in a page is tested in tests/report."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from fcos_edge.cli import main
from fcos_edge.report.page import MARK
from tests.conftest import REPO_ROOT
from tests.report.small_documents import make_analysis, make_evaluation, make_run

RECORDED = REPO_ROOT / "tests" / "report"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parity report, one of another bundle's bench, and files that are neither."""
    folder = tmp_path_factory.mktemp("reports")
    bench = json.loads((RECORDED / "bench.json").read_text())
    parity = json.loads(gzip.decompress((RECORDED / "parity.json.gz").read_bytes()))
    other = {**bench, "cases": [{**bench["cases"][0], "size_bytes": 1}]}
    later = {**parity, "schema": "fcos-edge.parity/2.0"}
    empty = {"schema": parity["schema"]}
    documents = {
        "parity": parity, "bench": bench, "other": other, "later": later, "empty": empty, "list": [1],
    }  # fmt: skip
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    (folder / "text.json").write_text("no JSON")
    (folder / "mine.html").write_text("<p>my own page</p>")
    return folder


def test_markdown__is_written_and_replaced(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comment.md"
    command = ["report", str(folder / "parity.json"), str(folder / "bench.json"), "--markdown", str(out)]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"kinds": ["bench", "parity"], "files": [str(out)]}
    assert captured.err == f"wrote {out}\n"
    first = out.read_text()
    assert MARK in first.splitlines()[0]
    # A page of ours is replaced by the next.
    assert main(command) == 0
    assert out.read_text() == first
    assert [path.name for path in tmp_path.iterdir()] == ["comment.md"]


def test_html__of_a_bench_alone(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.html"
    assert main(["report", str(folder / "bench.json"), "--html", str(out)]) == 0
    assert out.read_text().startswith(f"<!doctype html>\n<!-- {MARK}")


@pytest.mark.parametrize("kind", ["eval", "analyze", "training"])
def test_html__of_eval_analyze_and_a_run(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = tmp_path / "given", tmp_path / "page.html"
    if kind == "training":
        make_run(given)
    else:
        given.write_text(json.dumps(make_evaluation() if kind == "eval" else make_analysis(), sort_keys=True))
    command = ["report", str(given), "--html", str(out)]
    assert main(command) == 0
    assert out.read_text().startswith(f"<!doctype html>\n<!-- {MARK}")
    of_data = (
        "d: no such file or folder" if kind == "eval" else f"--data: the page is of {kind}; leave it out"
    )
    for more, said in (
        (["--markdown", str(tmp_path / "x.md")], f"--markdown: the page is of {kind}; leave it out"),
        (["--data", "d"], of_data),
    ):
        assert main([*command, *more]) == 2
        assert said in capsys.readouterr().err


def test_html__of_an_older_eval_has_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, out = tmp_path / "eval.json", tmp_path / "page.html"
    document = make_evaluation() | {"schema": "fcos-edge.eval/1.0"}
    del document["worst_misses"], document["worst_false_alarms"]
    for row in document["classes"].values():
        del row["misses"], row["false_alarms"]
    given.write_text(json.dumps(document))
    command = ["report", str(given), "--html", str(out)]
    assert main(command) == 0
    assert "Worst" not in out.read_text()
    assert main([*command, "--data", "d"]) == 2
    assert (
        "--data: the file is of an older eval, which names no pictures; leave it out"
        in capsys.readouterr().err
    )


def test_html__one_page_for_one_thing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = tmp_path / "eval.json", tmp_path / "page.html"
    given.write_text(json.dumps(make_evaluation()))
    assert main(["report", str(given), str(folder / "bench.json"), "--html", str(out)]) == 2
    assert "a page of eval holds nothing else" in capsys.readouterr().err
    given.write_text(json.dumps({"schema": "fcos-edge.eval/1.0", "classes": {}}))
    assert main(["report", str(given), "--html", str(out)]) == 2
    assert "damaged (KeyError: " in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(("words", "said"), [
    (["parity.json"], "nothing to write; name a file with --html, with --markdown or with both"),
    (["none.json", "--html", "new.html"], "none.json: cannot be read (No such file or directory)"),
    (["text.json", "--html", "new.html"], "text.json: no JSON; give what a verb wrote with --json"),
    (["list.json", "--html", "new.html"], "list.json: its schema is None; give what one of"),
    (["empty.json", "--html", "new.html"], "empty.json: damaged (KeyError: 'artifacts'); write it again"),
    (["empty.json", "--markdown", "new.md"], "empty.json: damaged (KeyError: 'artifacts'); write it again"),
    (["later.json", "--html", "new.html"], "version 2.0 is not 1.x; install the fcos-edge release"),
    (["parity.json", "parity.json", "--html", "new.html"], "parity.json: a second parity report; give one"),
    (["parity.json", "other.json", "--html", "new.html"], "the bench is of another bundle: model."),
    (["bench.json", "--markdown", "new.md"], "--markdown: a bench alone has no short form"),
    (["bench.json", "--data", ".", "--html", "new.html"], "--data: there is no parity report"),
    (["parity.json", "--bundle", ".", "--html", "new.html"], "has no sensitivity.json; leave it out"),
    (["parity.json", "--html", "none/new.html"], "there is no folder none; make it first"),
    # What is not ours stays as it is.
    (["parity.json", "--html", "mine.html"], "mine.html: is there already and no page of ours; name another"),
    (["parity.json", "--html", "."], "is there already and no page of ours"),
    (["parity.json", "--html", "new.md", "--markdown", "./new.md"], "both are new.md; name two files"),
])  # fmt: skip
def test_refusals__write_nothing(
    words: list[str],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["report", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(("words", "said"), [
    (["--html", "none/new.html"], "--html none/new.html: there is no folder none; make it first"),
    (["--html", "mine.html"], "mine.html: is there already and no page of ours"),
    (["--bench", "bench.json"], "--bench is shown in a page; name one with --html or --markdown"),
    (["--bench", "parity.json", "--html", "new.html"], "--bench parity.json: is a report of parity"),
    (["--collect", "new.jsonl", "--html", "new.html"], "--collect only runs: leave out --from,"),
])  # fmt: skip
def test_parity__refuses_pages_before_anything_runs(
    words: list[str],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    # There is no such bundle: what is said comes first.
    assert main(["parity", "no-bundle", "--data", "no-data", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "new.html").exists()
