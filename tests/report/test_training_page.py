from __future__ import annotations

from pathlib import Path

import pytest

from fcos_edge.errors import UsageError
from fcos_edge.report.training import read_training, training_page
from tests.report.page_reader import read_page
from tests.report.small_documents import make_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "my run")


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return training_page(read_training(folder))


def test_training_page__says_how_far_and_how_good(page: str) -> None:
    assert "AP 0.566" in page
    assert "Finished: 300 steps, epoch 3 of 4. AP is of 20 held-out pictures." in page
    assert "AP was highest at step 200, with 0.570; what is stored is the last." in page
    # 100 steps of 8 pictures in 80 s; 3 times 80 s; 0.5 + 0.25 + 0.625.
    for text in ("10.0", "4 min 00 s", "1.375"):
        assert f">{text}</dd>" in page


def test_training_page__has_a_row_for_each_epoch(page: str) -> None:
    rows = [[text for text, _ in row] for row in read_page(page).tables["epochs-table"]]
    assert rows == [
        ["1", "100", "256 x 256", "1.5000", "0.7500", "0.6250", "2.00e-03", "80", "10.0", "–"],
        ["2", "200", "256 x 256", "0.7500", "0.3750", "0.6250", "1.00e-03", "80", "10.0", "0.5701"],
        ["3", "300", "320 x 320", "0.5000", "0.2500", "0.6250", "6.67e-04", "80", "10.0", "–"],
    ]


def test_training_page__draws_accuracy_losses_rate_speed_and_classes(page: str) -> None:
    for tip in (
        "step 200: AP 0.5701", "step 300: AP 0.5656", "step 300: AP50 0.9123", "step 100: center-ness 0.6250",
        "step 300: 0.000667", "step 100: 10 pictures/s", "person: AP 0.566, AP50 0.900, 120 boxes",
    ):  # fmt: skip
        assert f"<title>{tip}</title>" in page, tip
    assert ">best AP 0.570</text>" in page
    assert ">320 x 320</text>" in page


def test_training_page__says_how_to_do_it_again(page: str, folder: Path) -> None:
    assert "fcos-edge train --data &#39;/data/my data&#39; --out run" in page
    assert f"fcos-edge export &#39;{folder}/lite0-320.safetensors&#39; --int8" in page
    assert "optimizer.learning_rate" in page


def test_training_page__of_a_run_that_goes_on(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", is_finished=False)
    page = training_page(read_training(folder))
    assert "Not finished: 300 of 400 steps, epoch 3 of 4." in page
    assert f"fcos-edge train --resume --out {folder}" in page
    assert "AP 0.570" in page


def test_training_page__of_a_run_without_held_out_pictures(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", is_finished=False)
    lines = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if "held_out" not in line]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    page = training_page(read_training(folder))
    assert "Epoch 3 is done" in page
    assert "losses alone do not tell whether it detects" in page


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("run.json", None, "no run.json (No such file or directory); give the folder of a run"),
        ("run.json", "[]", "run.json: damaged; give the folder of a run"),
        ("run.json", "{}", "run.json: damaged; give the folder of a run"),
        ("metrics.jsonl", None, "no metrics.jsonl (No such file or directory)"),
        ("metrics.jsonl", '{"epoch": 1', "metrics.jsonl: no epoch is done yet; try again when one is"),
        ("lite0-320.safetensors", "short", "lite0-320.safetensors: no checkpoint that can be read"),
    ],
)
def test_read_training__what_cannot_be_read(
    tmp_path: Path, file: str, content: str | None, said: str
) -> None:
    folder = make_run(tmp_path / "run")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(UsageError) as error:
        read_training(folder)
    assert said in str(error.value)
