"""What a licence is taken for, by its name and URL, and which pictures of a data set that leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.errors import DataError, UsageError
from fcos_edge.train.analyze.boxes import read_boxes
from fcos_edge.train.data.check import check_data
from fcos_edge.train.data.formats import read_labels, read_pictures
from fcos_edge.train.data.licence import NO_RECORD, Licence, judge
from fcos_edge.train.data.licensed import keep_licensed, licence_lines, require_some
from tests.coco_sets import CLASSES, draw_scenes, make_coco_set, write_voc, write_yolo

CC = "http://creativecommons.org/licenses"
BY = {"id": 4, "name": "Attribution License", "url": f"{CC}/by/2.0/"}
BY_NC = {"id": 2, "name": "Attribution-NonCommercial License", "url": f"{CC}/by-nc/2.0/"}
MIT = {"id": 1, "name": "MIT"}

# name, url, what it is taken for
JUDGED = [
    ("", "", "no record"),
    (" ", "\n", "no record"),
    # COCO's eight
    ("Attribution-NonCommercial-ShareAlike License", f"{CC}/by-nc-sa/2.0/", "forbidden"),
    ("Attribution-NonCommercial License", f"{CC}/by-nc/2.0/", "forbidden"),
    ("Attribution-NonCommercial-NoDerivs License", f"{CC}/by-nc-nd/2.0/", "forbidden"),
    ("Attribution License", f"{CC}/by/2.0/", "allowed"),
    ("Attribution-ShareAlike License", f"{CC}/by-sa/2.0/", "allowed"),
    ("Attribution-NoDerivs License", f"{CC}/by-nd/2.0/", "allowed"),
    ("No known copyright restrictions", "http://flickr.com/commons/usage/", "allowed"),
    ("United States Government Work", "http://www.usa.gov/copyright.shtml", "allowed"),
    # the URL alone: any version, country, page and way to write it
    ("", "https://creativecommons.org/licenses/by/4.0/deed.de", "allowed"),
    ("", "https://creativecommons.org/licenses/by-sa/3.0/us/legalcode", "allowed"),
    ("", "HTTPS://WWW.CreativeCommons.org/licenses/BY-ND/4.0", "allowed"),
    ("", "creativecommons.org/licenses/by/4.0/", "allowed"),
    ("", "https://creativecommons.org/publicdomain/zero/1.0/", "allowed"),
    ("", "https://creativecommons.org/publicdomain/mark/1.0/", "allowed"),
    ("", "https://creativecommons.org/licenses/by-nd-nc/1.0/", "forbidden"),  # the order of version 1
    ("", "https://creativecommons.org/licenses/nc/1.0/", "forbidden"),
    ("", "https://creativecommons.org/licenses/", "unknown"),
    ("", "https://creativecommons.org/licenses/by-x/4.0/", "unknown"),
    ("", "https://creativecommons.org.example.com/licenses/by/4.0/", "unknown"),
    ("", "https://example.com/creativecommons.org/licenses/by/4.0/", "unknown"),
    ("", "https://opensource.org/licenses/MIT", "allowed"),
    ("", "https://opensource.org/license/apache-2-0", "allowed"),
    ("", "https://www.apache.org/licenses/LICENSE-2.0.txt", "allowed"),
    ("", "https://opensource.org/licenses/BSD-3-Clause", "allowed"),
    ("", "https://spdx.org/licenses/CC-BY-4.0.html", "allowed"),
    ("", "https://spdx.org/licenses/CC-BY-NC-4.0.html", "forbidden"),
    ("", "https://opensource.org/licenses/GPL-3.0", "unknown"),
    ("", "http://[", "unknown"),  # no URL at all
    # the name alone
    ("CC BY 4.0", "", "allowed"),
    ("CC-BY-SA-4.0", "", "allowed"),
    ("Creative Commons Attribution-NoDerivatives 4.0 International License", "", "allowed"),
    ("CC0 1.0 Universal", "", "allowed"),
    ("CC0: Public Domain", "", "allowed"),
    ("Public Domain", "", "allowed"),
    ("U.S. Government Work", "", "allowed"),
    ("MIT", "", "allowed"),
    ("The MIT License", "", "allowed"),
    ("Apache License, Version 2.0", "", "allowed"),
    ("Apache-2.0", "", "allowed"),
    ("BSD-3-Clause", "", "allowed"),
    ("BSD 2-Clause License", "", "allowed"),
    ("CC BY-NC 4.0", "", "forbidden"),
    ("CC BY-NC-SA 4.0", "", "forbidden"),
    ("All rights reserved", "", "forbidden"),
    ("Private", "", "unknown"),
    ("MIT-like", "", "unknown"),
    ("Not MIT", "", "unknown"),
    ("BSD-3-Clause-No-Nuclear-License", "", "unknown"),
    ("ODbL v1.0", "https://opendatacommons.org/licenses/odbl/", "unknown"),
    # both: one of them is enough to know it, and a no outweighs
    ("Free pictures", f"{CC}/by/2.0/", "allowed"),
    ("Apache 2.0", "https://example.com/LICENSE", "allowed"),
    ("Attribution License", f"{CC}/by-nc/2.0/", "forbidden"),
    ("For non-commercial use", f"{CC}/by/2.0/", "forbidden"),
    ("Research use only", f"{CC}/by/2.0/", "forbidden"),
]


@pytest.mark.parametrize(("name", "url", "wanted"), JUDGED, ids=range(len(JUDGED)))
def test_judge__table(name: str, url: str, wanted: str) -> None:
    assert judge(Licence(name, url)) == wanted


def test_judge__an_id_that_is_not_defined() -> None:
    assert judge(Licence(undefined_id="9")) == "unknown"


def _coco(folder: Path, licenses: object, named: list[object]) -> Path:
    """A COCO set with a picture for each of `named`, their `license`; None: the key is not there."""
    make_coco_set(folder, "train", len(named))
    path = folder / "annotations" / "instances_train.json"
    document = json.loads(path.read_text())
    for image, name in zip(document["images"], named, strict=True):
        image |= {} if name is None else {"license": name}
    path.write_text(json.dumps(document | {"licenses": licenses}))
    return folder


_BY, _MIT = Licence(BY["name"], BY["url"]), Licence("MIT")  # type: ignore[arg-type]

# licenses, the license of each image, what is read
RECORDS: list[tuple[Any, list[object], list[Licence]]] = [
    ([BY, MIT], [1, 4, 4], [_MIT, _BY, _BY]),
    ([BY, MIT], [1, None, ""], [_MIT, NO_RECORD, NO_RECORD]),
    # one entry that no image names is of the whole file; two could be of any
    ([MIT], [None, None], [_MIT, _MIT]),
    ([{"name": "MIT"}], [None, None], [_MIT, _MIT]),
    ([BY, MIT], [None, None], [NO_RECORD, NO_RECORD]),
    ([MIT], [1, None], [_MIT, NO_RECORD]),
    ([MIT], [7, None], [Licence(undefined_id="7"), NO_RECORD]),
    # what a file does not define, or defines in two ways
    ([BY], [4, 9, "4", True], [_BY, *(Licence(undefined_id=text) for text in ("9", "'4'", "True"))]),
    ([BY, BY, MIT, {**MIT, "name": "GPL"}], [4, 1], [_BY, Licence(undefined_id="1")]),
    # labels are read whatever the records look like
    ([], [0], [Licence(undefined_id="0")]),
    ([{"id": 0, "name": "", "url": ""}], [0], [NO_RECORD]),
    ([{"id": 1, "name": None, "url": 5}], [1], [NO_RECORD]),
    ([{"id": [1], "name": "MIT"}], [[1], {}], [_MIT, Licence(undefined_id="{}")]),
    (None, [None], [NO_RECORD]),
    ("MIT", [None], [NO_RECORD]),
    (["MIT"], [None], [NO_RECORD]),
    ({"1": "MIT"}, [1], [Licence(undefined_id="1")]),
]


@pytest.mark.parametrize(("licenses", "named", "wanted"), RECORDS, ids=range(len(RECORDS)))
def test_coco__records(tmp_path: Path, licenses: object, named: list[object], wanted: list[Licence]) -> None:
    labels = read_labels(_coco(tmp_path, licenses, named), "train")
    assert [picture.licence for picture in labels.pictures] == wanted


@pytest.mark.parametrize("write", [write_yolo, write_voc])
def test_other_formats__have_no_record(tmp_path: Path, write: Callable[..., Path]) -> None:
    folder = write(tmp_path, "train", draw_scenes(6))
    assert read_pictures(folder, "train", CLASSES, licence="commercial") == []
    with pytest.raises(DataError, match=r"none of 6 pictures has .* \(6 without a record\); give data with"):
        read_boxes(folder, "train", licence="commercial")


def test_readers__keep_the_same_pictures(tmp_path: Path) -> None:
    folder = _coco(tmp_path, [BY, BY_NC], [4, 2, None, 9, 4])
    wanted = ["train0.png", "train4.png"]
    pictures = read_pictures(folder, "train", CLASSES, licence="commercial")
    assert [picture.path.name for picture in pictures] == wanted
    boxes = read_boxes(folder, "train", licence="commercial")
    assert [picture.path.name for picture in boxes.pictures] == wanted
    assert len(read_pictures(folder, "train", CLASSES)) == len(read_boxes(folder, "train").pictures) == 5
    assert licence_lines(read_boxes(folder, "train").licences) == []


def test_check__looks_at_what_trains_and_counts_every_licence(tmp_path: Path) -> None:
    folder = _coco(tmp_path, [BY, BY_NC], [4, 2, None, 9, 4, 2, 2])
    make_coco_set(folder, "val", 3, seed=1)
    (folder / "train" / "train1.png").unlink()  # of a picture that is left out anyway
    report = check_data([(folder, "train"), (folder, "val")], licence="commercial")
    report.raise_if_refused()
    assert [counts.pictures for counts in report.sets] == [2, 3]
    assert report.lines()[1:6] == [
        "  2 of 7 pictures have a licence record that allows commercial use",
        f"    kept 2: Attribution License {CC}/by/2.0/",
        f"    left out 3, not for commercial use: Attribution-NonCommercial License {CC}/by-nc/2.0/",
        "    left out 1: without a record",
        "    left out 1, not known to allow it: licence 9, which the data set does not define",
    ]
    train, val = report.to_dict()["sets"]
    assert train["licences"][0] == {
        "name": BY["name"], "url": BY["url"], "undefined_id": "", "verdict": "allowed", "pictures": 2,
    }  # fmt: skip
    assert "licences" not in val
    assert train["sha256"] != check_data([(folder, "train")]).to_dict()["sets"][0]["sha256"]


def test_check__a_set_may_give_nothing_where_another_gives_something(tmp_path: Path) -> None:
    one, other = _coco(tmp_path / "one", [MIT], [None]), _coco(tmp_path / "other", [], [None, None])
    report = check_data([(one, "train"), (other, "train")], licence="commercial")
    report.raise_if_refused()
    said = "  0 of 2 pictures have a licence record that allows commercial use; nothing of this set is used"
    lines = report.lines()
    start = lines.index(
        f"{other} train: 0 pictures (0 without boxes), 0 boxes, 0 ignored, 0 of other classes"
    )
    assert lines[start + 1 : start + 3] == [
        said,
        "    left out 2: without a record",
    ]
    nothing = check_data([(other, "train")], licence="commercial")
    with pytest.raises(DataError, match="other: none of 2 pictures has a licence record that allows"):
        nothing.raise_if_refused()


def test_require_some__says_why(tmp_path: Path) -> None:
    labels = read_labels(_coco(tmp_path, [BY_NC], [2, 2, None, 9]), "train")
    left, counts = keep_licensed(labels, "commercial")
    assert left.pictures == ()
    with pytest.raises(DataError) as caught:
        require_some([Path("a"), Path("b")], counts)
    assert str(caught.value) == (
        "a, b: none of 4 pictures has a licence record that allows commercial use (2 not for commercial use,"
        " 1 not known to allow it, 1 without a record); give data with such records, or leave out --licence"
    )


def test_keep_licensed__another_use(tmp_path: Path) -> None:
    labels = read_labels(_coco(tmp_path, [MIT], [1]), "train")
    with pytest.raises(UsageError, match="licence 'private' is not known; choose from commercial"):
        keep_licensed(labels, "private")  # type: ignore[arg-type]


def test_lines__someone_elses_text_stays_on_one_line(tmp_path: Path) -> None:
    labels = read_labels(_coco(tmp_path, [{"id": 1, "name": "a\nb" * 200, "url": "x\ty"}], [1]), "train")
    lines = licence_lines(keep_licensed(labels, "commercial")[1])
    assert lines[1].startswith("    left out 1, not known to allow it: a ba b")
    assert len(lines) == 2
    assert len(lines[1]) < 300
    assert not set("\n\t") & set(lines[1])


# set, pictures in train, those that stay
REAL = [("coco-person", 2163, 672), ("voc-coco-mix", 2431, 0), ("bccd", 205, 205)]


@pytest.mark.parametrize(("name", "pictures", "kept"), REAL)
def test_real_sets(data_set: Callable[[str], Path], name: str, pictures: int, kept: int) -> None:
    left, counts = keep_licensed(read_labels(data_set(name), "train"), "commercial")
    assert (sum(count.pictures for count in counts), len(left.pictures)) == (pictures, kept)
    if name == "coco-person":
        assert [count.pictures for count in counts if count.is_kept] == [381, 178, 110, 3]
