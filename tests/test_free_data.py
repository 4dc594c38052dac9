"""The free data set: what is written, that its labels are true, and that it tells harmed from sound."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

import fcos_edge
from fcos_edge.detections import Detections
from fcos_edge.errors import UsageError
from fcos_edge.free_data import CLASSES, SPLIT, main, write_free_data
from fcos_edge.free_pictures import _CAT, _PERSON_OUTLINE, clip_polygon, make_free_pictures
from fcos_edge.runtime import UInt8Array
from fcos_edge.train.evaluation.evaluate import read_split


@pytest.fixture(scope="module")
def folder(free_data: Path) -> Path:
    return free_data


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_free_data__at_most_40_pictures_of_persons_and_cats(folder: Path) -> None:
    labelled = read_split(folder, SPLIT, CLASSES)  # checks sizes, boxes and names
    names = [CLASSES[label] for picture in labelled.pictures for label in picture.labels]
    assert len(labelled.pictures) == 36
    assert {name: names.count(name) for name in CLASSES if name in names} == {"person": 70, "cat": 72}
    assert any(len(picture.labels) == 0 for picture in labelled.pictures)
    assert sum(map(len, contents(folder).values())) < 5e6
    for word in ("Eileen Collins", "Public domain", "CC0"):
        assert word in (folder / "LICENSE").read_text()


def test_free_data__every_run_writes_the_same(folder: Path, tmp_path: Path) -> None:
    write_free_data(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_free_data__classes_are_the_embedded_detectors(embedded_bundle: Path) -> None:
    with fcos_edge.load(embedded_bundle) as detector:
        assert detector.spec.classes == CLASSES


def test_free_pictures__no_two_boxes_overlap_and_all_lie_inside() -> None:
    for picture in make_free_pictures():
        height, width = picture.image_bgr.shape[:2]
        boxes = np.array(picture.boxes_xyxy).reshape(-1, 4)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= [width, height]).all()
        # 30: the least that the detector's finest level is for, with room.
        assert (boxes[:, 2:] - boxes[:, :2] >= 30).all()
        for place, one in enumerate(boxes):
            overlap_wh = np.minimum(one[2:], boxes[:place, 2:]) - np.maximum(one[:2], boxes[:place, :2])
            assert not (overlap_wh > 0).all(axis=1).any()


@pytest.mark.parametrize("outline", [_PERSON_OUTLINE, _CAT.outline], ids=["person", "cat"])
@pytest.mark.parametrize("box_xyxy", [
    (0, 0, 451, 400),     # all of it
    (60, 5, 260, 230),    # cut on three sides
    (150, 100, 200, 130), # within the outline
    (30, 60, 300, 90),    # a strip
])  # fmt: skip
def test_clip_polygon__like_the_drawn_outline(
    outline: Sequence[tuple[float, float]], box_xyxy: tuple[int, int, int, int]
) -> None:
    factor = 4
    drawn = np.zeros((400 * factor, 451 * factor), np.uint8)
    cv2.fillPoly(drawn, [np.rint(np.array(outline) * factor).astype(np.int32)], 255)
    x1, y1, x2, y2 = (factor * side for side in box_xyxy)
    ys, xs = np.nonzero(drawn[y1:y2, x1:x2])
    wanted = np.array([xs.min() + x1, ys.min() + y1, xs.max() + x1 + 1, ys.max() + y1 + 1]) / factor
    corners = np.array(clip_polygon(outline, box_xyxy))
    found = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    # fillPoly takes the border's pixels in: one of the drawing's, and one for rounding.
    np.testing.assert_allclose(found, wanted, atol=2 / factor)


def moved(found: Detections, image_bgr: UInt8Array) -> Detections:
    """4 input pixels off, half of the finest level's stride."""
    offset = np.float32(4 * max(image_bgr.shape[:2]) / 320)
    return Detections(found.boxes_xyxy + offset, found.scores, found.labels)


def test_free_data__a_sound_detector_finds_most_and_a_harmed_one_less(
    folder: Path, embedded_bundle: Path
) -> None:
    labelled = read_split(folder, SPLIT, CLASSES)
    images = [np.asarray(cv2.imread(str(picture.path)), np.uint8) for picture in labelled.pictures]
    with fcos_edge.load(embedded_bundle, precision="fp32") as detector:
        found = [detector.candidates(image) for image in images]
        found_in_bgr = [detector.candidates(np.ascontiguousarray(image[..., ::-1])) for image in images]
    sound = labelled.compare(found)
    # Measured 0.73 and 0.65, AP50 0.97 and 0.92; JPEG decoders and runtimes differ by less than 0.01.
    for row in sound.classes:
        if row.name in ("person", "cat"):
            assert 0.55 < row.ap < 0.85
            assert row.ap50 > 0.85
    found_moved = [moved(*pair) for pair in zip(found, images, strict=True)]
    # Measured: 0.08 and 0.14 less.
    assert labelled.compare(found_in_bgr).figures["AP"] < sound.figures["AP"] - 0.04
    assert labelled.compare(found_moved).figures["AP"] < sound.figures["AP"] - 0.08


# What stands at the place -> what the error says.
def _other_files(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def _other_data(path: Path) -> None:
    (path / "annotations").mkdir(parents=True)
    (path / SPLIT).mkdir()
    (path / "annotations/instances_val.json").write_text(json.dumps({"info": {"description": "mine"}}))


def _broken_data(path: Path) -> None:
    (path / "annotations").mkdir(parents=True)
    (path / "annotations/instances_val.json").write_text("[" * 100_000)


def _file(path: Path) -> None:
    path.write_text("mine")


def _dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize(("stand_in_the_way", "message"), [
    (_other_files, "holds something else than the free data set; choose another folder"),
    (_other_data, "holds something else"),
    (_broken_data, "holds something else"),
    (_file, "is a file; choose another folder"),
    (_dangling_link, "is a file"),
])  # fmt: skip
def test_write_free_data__refuses_what_is_not_its_own(
    stand_in_the_way: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    stand_in_the_way(tmp_path / "free-data")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=re.escape(message)):
        write_free_data(tmp_path / "free-data")
    assert contents(tmp_path) == before


def test_write_free_data__below_a_file(tmp_path: Path) -> None:
    _file(tmp_path / "file")
    with pytest.raises(UsageError, match="file is a file"):
        write_free_data(tmp_path / "file" / "free-data")


def test_write_free_data__replaces_its_own_and_leaves_the_rest(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "free-data"
    mine.mkdir()  # empty: taken
    write_free_data(mine)
    (mine / "results.json").write_text("[]")
    (mine / SPLIT / "01.jpg").write_bytes(b"spoiled")
    write_free_data(mine)
    assert contents(mine) == {**contents(folder), "results.json": b"[]"}
    assert [path.name for path in tmp_path.iterdir()] == ["free-data"]


def test_write_free_data__disk_full_leaves_nothing(tmp_path: Path) -> None:
    program = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); import sys\n"
    program += "from fcos_edge.free_data import main; sys.exit(main(sys.argv[1:]))"
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a" / "free-data")], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "cannot be written (File too large); make room there, or choose another folder" in result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_main__says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "free-data")]) == 0
    assert capsys.readouterr().out == (
        f"wrote {tmp_path / 'free-data'}: 36 pictures, 70 times a person and 72 times a cat;"
        " public domain and CC0, see its LICENSE\n"
    )


def test_main__help_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == "usage: python -m fcos_edge.free_data FOLDER\n"


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--size"], [""]])
def test_main__takes_one_folder(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == "usage: python -m fcos_edge.free_data FOLDER\n"
