"""A free labelled data set for whoever has no data at hand.

python -m fcos_edge.free_data free-data
fcos-edge eval street8-lite0-320 --data free-data

    free-data/
      annotations/instances_val.json   COCO; the classes of the embedded detector, boxes of person and cat
      val/01.jpg ...                   one to ten crops on a drawn background, or none
      LICENSE                          of the source pictures

It tells a harmed detector from a sound one. It does not tell how good a detector is: all of it is one
person and one cat.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from fcos_edge.errors import FcosEdgeError, UsageError
from fcos_edge.free_pictures import SOURCES, FreePicture, make_free_pictures
from fcos_edge.writing import naming

CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "cat", "dog", "horse")
SPLIT = "val"
DESCRIPTION = "fcos-edge free data: one person and one cat, composed of free pictures"
_ANNOTATIONS = f"annotations/instances_{SPLIT}.json"
_LICENSE_NAME = "LICENSE"
_LICENSE_HEAD = "The pictures in val/ are composed of parts of those named here, and as free.\n\n"
_JPEG_QUALITY = 92
_REMEDY = "choose another folder"
_USAGE = "usage: python -m fcos_edge.free_data FOLDER"
_MAX_JSON_BYTES = 1 << 20


def write_free_data(folder: Path) -> list[FreePicture]:
    """Write the data set, whole or not at all, and return it. The files of an earlier run are replaced.

    Raises UsageError where `folder` holds anything else, or cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    with naming(folder, _REMEDY):
        is_there = _check_folder(folder)
    pictures = make_free_pictures()
    files = {f"{SPLIT}/{_name(number)}": _encoded(picture) for number, picture in enumerate(pictures, 1)}
    files[_LICENSE_NAME] = (_LICENSE_HEAD + (SOURCES / "LICENSE").read_text(encoding="utf-8")).encode()
    files[_ANNOTATIONS] = (json.dumps(_coco_of(pictures), indent=1) + "\n").encode()
    part_name = f".{folder.name}.{os.getpid()}.part"
    part = folder / part_name if is_there else folder.with_name(part_name)
    try:
        with naming(folder, _REMEDY):
            for name, content in files.items():
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                (part / name).write_bytes(content)
            if not is_there:
                os.replace(part, folder)
            else:
                for name in files:
                    (folder / name).parent.mkdir(exist_ok=True)
                    os.replace(part / name, folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return pictures


def _name(number: int) -> str:
    return f"{number:02d}.jpg"


def _encoded(picture: FreePicture) -> bytes:
    _, encoded = cv2.imencode(".jpg", picture.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return encoded.tobytes()


def _coco_of(pictures: Sequence[FreePicture]) -> dict[str, Any]:
    """Ids count from 1; category ids are the classes' places, from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures, 1):
        height, width = picture.image_bgr.shape[:2]
        images.append({"id": image_id, "file_name": _name(image_id), "width": width, "height": height})
        for (x1, y1, x2, y2), name in zip(picture.boxes_xyxy, picture.class_names, strict=True):
            bbox = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": 1 + CLASSES.index(name),
                "bbox": bbox, "area": round(bbox[2] * bbox[3], 2), "iscrowd": 0,
            })  # fmt: skip
    return {
        "info": {"description": DESCRIPTION},
        "images": images, "annotations": annotations,
        "categories": [{"id": place, "name": name} for place, name in enumerate(CLASSES, 1)],
    }  # fmt: skip


def _check_folder(folder: Path) -> bool:
    """Whether there is such a folder: empty, or of an earlier run. Raises UsageError for any other."""
    for path in (folder, *folder.parents):
        if path.is_symlink() or path.exists():
            if not path.is_dir():
                raise UsageError(f"{folder}: {path} is a file; {_REMEDY}")
            break
    if not folder.exists():
        return False
    if any(folder.iterdir()) and not _is_ours(folder):
        raise UsageError(f"{folder}: holds something else than the free data set; {_REMEDY}")
    return True


def _is_ours(folder: Path) -> bool:
    try:
        with (folder / _ANNOTATIONS).open("rb") as file:
            document = json.loads(file.read(_MAX_JSON_BYTES))
        return bool(document["info"]["description"] == DESCRIPTION) and (folder / SPLIT).is_dir()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def main(arguments: Sequence[str]) -> int:
    """`python -m fcos_edge.free_data FOLDER`; returns the exit code."""
    if arguments in (["-h"], ["--help"]):
        print(_USAGE)
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-") or not arguments[0]:
        print(_USAGE, file=sys.stderr)
        return UsageError.exit_code
    try:
        pictures = write_free_data(Path(arguments[0]))
    except FcosEdgeError as error:
        print(f"fcos-edge: {error}", file=sys.stderr)
        return error.exit_code
    names = [name for picture in pictures for name in picture.class_names]
    print(
        f"wrote {arguments[0]}: {len(pictures)} pictures, {names.count('person')} times a person and"
        f" {names.count('cat')} times a cat; public domain and CC0, see its {_LICENSE_NAME}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
