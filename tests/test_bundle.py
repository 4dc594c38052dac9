"""The manifest of a bundle."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcos_edge.bundle import (
    FileEntry,
    Manifest,
    ManifestArtifact,
    check_files,
    describe_file,
    dump_manifest,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from fcos_edge.errors import ArtifactError, FcosEdgeError, SpecError
from tests.runtimes.models import SPEC

SHA = hashlib.sha256(b"weights").hexdigest()
BIN = FileEntry("model.int8.bin", 7, SHA)
XML = FileEntry("model.int8.xml", 3, "0" * 64)
ARTIFACT = ManifestArtifact((XML, BIN), "openvino", "int8", {"max_difference": 0.25})
MANIFEST = Manifest(SPEC, (ARTIFACT, ManifestArtifact((FileEntry("m.onnx", 1, SHA),), "onnx", "fp32")))


def changed(path: str, value: Any) -> str:
    """The manifest's text with one value changed; "artifacts.0.files.1.name" says which."""
    document = json.loads(dump_manifest(MANIFEST))
    *parents, last = path.split(".")
    target = document
    for key in parents:
        target = target[int(key) if key.isdigit() else key]
    target[last] = value
    return json.dumps(document)


def test_manifest__round_trip(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST


def test_manifest__same_values_same_bytes() -> None:
    assert dump_manifest(MANIFEST) == dump_manifest(parse_manifest(dump_manifest(MANIFEST)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a JSON document"),
        ("[]", "expected a JSON object"),
        ("[" * 100_000, "not a JSON document"),
        (changed("version", "2.0"), "version 2.0"),
        (changed("version", 1), "version"),
        (changed("colour", "red"), "unknown key 'colour'"),
        (changed("spec.name", "../x"), "name"),
        (changed("artifacts", {}), "artifacts must be a list"),
        (changed("artifacts.0.extra", 1), "unknown key 'extra'"),
        (changed("artifacts.0.format", "caffe"), "format"),
        (changed("artifacts.0.precision", ["int8"]), "precision"),
        (changed("artifacts.0.verify", []), "verify"),
        (changed("artifacts.0.verify", {"value": math.nan}), "verify"),  # could not be written again
        (changed("x" * 5000, 1), "unknown key 'xxx"),
        (changed("artifacts.0.files", []), "no files"),
        (changed("artifacts.0.files", "model.xml"), "files must be a list"),
        (changed("artifacts.0.files.0.name", "../model.xml"), "no plain name"),
        (changed("artifacts.0.files.0.name", "/etc/passwd"), "no plain name"),
        (changed("artifacts.0.files.0.name", "a\\b.xml"), "no plain name"),
        (changed("artifacts.0.files.0.name", "c:model.xml"), "no plain name"),
        (changed("artifacts.0.files.0.name", ".."), "no plain name"),
        (changed("artifacts.0.files.0.name", ""), "no plain name"),
        (changed("artifacts.0.files.0.name", "a\nb.xml"), "no plain name"),
        (changed("artifacts.0.files.0.name", "\ud800.xml"), "no plain name"),
        (changed("artifacts.0.files.0.name", "x" * 252 + ".xml"), "no plain name"),  # no disk takes it
        (changed("artifacts.0.files.0.name", 7), "name must be text"),
        (changed("artifacts.0.files.0.name", "m.onnx"), "named twice"),
        (changed("artifacts.0.files.0.bytes", True), "bytes must be an integer"),
        (changed("artifacts.0.files.0.bytes", -1), "negative"),
        (changed("artifacts.0.files.0.sha256", "0" * 63), "sha256"),
        (changed("artifacts.0.files.0.sha256", "G" * 64), "sha256"),
    ],
)
def test_parse_manifest__rejects_in_one_line(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        parse_manifest(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_read_manifest__names_the_file(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(SpecError, match=r"manifest\.json: manifest: not a JSON"):
        read_manifest(tmp_path)


def test_read_manifest__folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no bundle"):
        read_manifest(tmp_path)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.int8.xml").write_bytes(b"xml")
    (folder / "model.int8.bin").write_bytes(b"weights")
    return folder


def described(folder: Path) -> ManifestArtifact:
    files = (describe_file(folder / "model.int8.xml"), describe_file(folder / "model.int8.bin"))
    return replace(ARTIFACT, files=files)


def test_check_files__gives_the_main_file(bundle: Path) -> None:
    artifact = described(bundle)
    assert artifact.files[1] == BIN
    assert check_files(bundle, artifact) == bundle / "model.int8.xml"


def remove(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    path.write_bytes(b"weight")


def flip_a_bit(path: Path) -> None:
    path.write_bytes(b"weighus")


def link_out(path: Path) -> None:
    outside = path.parent.parent / "outside.bin"
    path.rename(outside)
    path.symlink_to(outside)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove, "missing"),
        (shorten, "6 bytes, expected 7"),
        (flip_a_bit, "sha256 differs"),
        (link_out, "leaves the bundle"),
        (make_folder, "missing"),
    ],
)
def test_check_files__damage_is_one_line(bundle: Path, damage: Any, message: str) -> None:
    artifact = described(bundle)
    # The second file, which the runtime opens by itself, counts as much as the first.
    damage(bundle / "model.int8.bin")
    with pytest.raises(FcosEdgeError, match=message) as caught:
        check_files(bundle, artifact)
    assert "\n" not in str(caught.value)


def test_check_files__bundle_behind_a_link(bundle: Path) -> None:
    link = bundle.parent / "link"
    link.symlink_to(bundle)
    assert check_files(link, described(bundle)) == link / "model.int8.xml"
