"""What is calibrated on, what is measured on, and that no picture is both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fcos_edge.calibration_pictures import picture_sha256
from fcos_edge.errors import DataError
from fcos_edge.quantize.calibration_data import find_calibration_data, require_apart
from tests.coco_sets import CLASSES, make_coco_set


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five pictures in `train`, three in `val`."""
    folder = make_coco_set(tmp_path / "data", "train", 5)
    return make_coco_set(folder, "val", 3, seed=1)


def test_data__train_is_calibrated_on_and_val_is_measured_on(data: Path) -> None:
    found = find_calibration_data(data, CLASSES, 3)
    assert (len(found.pictures), found.available) == (3, 5)
    assert found.labelled is not None
    assert len(found.labelled.pictures) == 3
    require_apart(found.labelled, [picture_sha256(picture) for picture in found.pictures])


def test_data__a_plain_folder_is_calibrated_on_alone(data: Path) -> None:
    found = find_calibration_data(data / "train", CLASSES, 100)
    assert (len(found.pictures), found.labelled, found.why_not) == (5, None, "")
    first = found.pictures[0]
    assert first.dtype == "uint8"
    assert first.ndim == 3
    assert len(found.pictures[1:3]) == 2


def test_data__labels_of_other_classes_are_no_labels(data: Path) -> None:
    found = find_calibration_data(data, ("giraffe",), 3)
    assert found.labelled is None
    assert "no class 'giraffe'" in found.why_not


def test_overlap__is_found_by_content_under_any_name(data: Path) -> None:
    twin = next((data / "val").glob("*.png"))
    shutil.copy(twin, data / "train" / next((data / "train").glob("*.png")).name)
    found = find_calibration_data(data, CLASSES, 100)
    assert found.labelled is not None
    digests = [picture_sha256(picture) for picture in found.pictures]
    with pytest.raises(DataError, match=rf"1 of 3 pictures to measure on .*{twin.name}.*--allow-overlap"):
        require_apart(found.labelled, digests)


@pytest.mark.parametrize(("name", "said"), [("nothing", "no such folder"), ("file.txt", "is a file")])
def test_data__what_is_no_folder_is_one_line(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(DataError, match=said):
        find_calibration_data(tmp_path / name, CLASSES, 3)
