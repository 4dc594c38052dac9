"""Every fault that is planted fails `parity` on small real data, and the unharmed artifact beside it passes.

One bundle holds the unharmed int8 file and a copy for each fault, so that one run judges all of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from fcos_edge.bundle import Manifest, ManifestArtifact, describe_file, read_manifest, write_manifest
from fcos_edge.golden import FOLDER, INDEX_NAME
from fcos_edge.parity.measure import Request, measure
from tests.faults import FAULTS

FILE = "model.int8.onnx"
PICTURES = 16  # of coco-person where it is at hand, else of the free ones
# Fault -> gates that fail on either data set; others fail besides, "golden" in all of them.
FOUND_BY = {
    "bgr for rgb": {"raw_outputs"},
    "stretch for letterbox": {"raw_outputs", "matched"},
    # Within what int8 does anyway, seen from float32: the stored integers of the simulator give it away.
    "activation scale doubled": {"golden"},
    "class bias down": {"raw_outputs"},
    "left and right of a level swapped": {"raw_outputs"},
    "location offset": {"matched"},
    "exp for relu": {"matched", "ap_drop"},
    "operating threshold": {"golden"},  # int8 has thresholds of its own: the golden check knows them
    "weights zeroed": {"raw_outputs", "matched", "ap_drop"},
    # Not the nine: other ways to go wrong.
    "levels swapped": {"raw_outputs"},
    "output scale doubled": {"raw_outputs"},
    "class names exchanged": {"ap_drop"},
    "padding black": {"raw_outputs"},
    "no root": {"matched"},
    "nms iou": {"conventions"},
}


@pytest.fixture(scope="module")
def failed(
    embedded_bundle: Path, free_data: Path, request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, set[str]]:  # fmt: skip
    """Fault, and "" for none -> the gates that fail."""
    try:
        data = request.getfixturevalue("data_set")("coco-person")
    except pytest.skip.Exception:
        data = free_data
    folder = tmp_path_factory.mktemp("planted")
    write_joint_bundle(embedded_bundle, folder / "bundle")
    part = first_pictures(data, folder / "data", PICTURES)
    report = measure(Request(folder / "bundle", part, draws=20, threads=1))
    return {
        one.run.variant.file.partition(".")[0].replace("-", " ").removeprefix("none"): {
            gate.name for gate in one.failed
        }
        for one in report.artifacts
    }


def write_joint_bundle(bundle: Path, out: Path) -> None:
    """The bundle's int8 ONNX file, unharmed and with each fault, under names of the faults."""
    manifest = read_manifest(bundle)
    (artifact,) = (artifact for artifact in manifest.artifacts if artifact.name == FILE)
    shutil.copytree(bundle / FOLDER, out / FOLDER)
    artifacts = []
    for name in ("none", *FOUND_BY):
        one = out.parent / "one"
        one.mkdir()
        shutil.copyfile(bundle / FILE, one / FILE)
        write_manifest(one, Manifest(manifest.spec, (artifact,)))
        if name in FAULTS:
            FAULTS[name].plant(one)
        path = out / f"{name.replace(' ', '-')}.int8.onnx"
        shutil.move(one / FILE, path)
        artifacts.append(ManifestArtifact((describe_file(path),), artifact.format, artifact.precision))
        shutil.rmtree(one)
    write_manifest(out, Manifest(manifest.spec, tuple(artifacts)))
    # Its own thresholds under every name.
    index = out / FOLDER / INDEX_NAME
    document = json.loads(index.read_text())
    thresholds = document["operating_thresholds"]
    thresholds.update((artifact.name, thresholds[FILE]) for artifact in artifacts)
    index.write_text(json.dumps(document))


def first_pictures(data: Path, out: Path, count: int) -> Path:
    """A data set of the first pictures of another one."""
    (labels,) = (data / "annotations").glob("*val.json")
    document = json.loads(labels.read_text())
    images = document["images"][:count]
    ids = {image["id"] for image in images}
    annotations = [entry for entry in document["annotations"] if entry["image_id"] in ids]
    (out / "annotations").mkdir(parents=True)
    (out / "val").mkdir()
    for image in images:
        shutil.copyfile(data / "val" / image["file_name"], out / "val" / image["file_name"])
    text = json.dumps({**document, "images": images, "annotations": annotations})
    (out / "annotations" / labels.name).write_text(text)
    return out


def test_parity__unharmed_passes(failed: Mapping[str, set[str]]) -> None:
    assert failed[""] == set()


@pytest.mark.parametrize("name", FOUND_BY)
def test_parity__planted_fault_fails(failed: Mapping[str, set[str]], name: str) -> None:
    assert FOUND_BY[name] <= failed[name]
