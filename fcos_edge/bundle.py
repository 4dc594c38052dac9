"""The manifest of a bundle: which model files a folder holds, and how each was verified.

A bundle is what `export` writes: one folder with the same model in several formats and precisions.
`manifest.json` names every file with its size and sha256, so that a damaged copy is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from fcos_edge.artifact import FORMATS, PRECISIONS, Format, Precision
from fcos_edge.errors import ArtifactError, SpecError
from fcos_edge.spec import ModelSpec, check_keys, check_version, is_json_object, shown

MANIFEST_NAME = "manifest.json"
RECORD_NAME = "calibration.json"
SENSITIVITY_NAME = "sensitivity.json"
SENSITIVITY_PLOT_NAME = "sensitivity.png"
MANIFEST_VERSION = (1, 0)
_MAX_MANIFEST_BYTES = 1 << 26
_MAX_NAME_BYTES = 255  # of usual file systems


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle.

    name    plain name within the bundle's folder
    bytes   its size
    sha256  of its content, 64 hexadecimal digits
    """

    name: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        is_text = self.name.isprintable() and self.name not in ("", ".", "..")
        is_plain = is_text and not set(self.name) & set("/\\:") and len(self.name.encode()) <= _MAX_NAME_BYTES
        _require(is_plain, f"file name {shown(self.name)} is no plain name")
        _require(self.bytes >= 0, f"{shown(self.name)}: bytes must not be negative")
        is_hex = len(self.sha256) == 64 and not set(self.sha256) - set("0123456789abcdef")
        _require(is_hex, f"{shown(self.name)}: sha256 must be 64 hexadecimal digits")


@dataclass(frozen=True)
class ManifestArtifact:
    """One model of a bundle.

    files   the file that is loaded, then those that belong to it (OpenVINO: .xml, .bin)
    verify  free-form JSON: what `export` measured against the PyTorch model
    """

    files: tuple[FileEntry, ...]
    format: Format
    precision: Precision
    verify: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(bool(self.files), "an artifact has no files")
        _require(self.format in FORMATS, f"format must be one of {', '.join(FORMATS)}")
        _require(self.precision in PRECISIONS, f"precision must be one of {', '.join(PRECISIONS)}")

    @property
    def name(self) -> str:
        """Name of the file that is loaded."""
        return self.files[0].name

    @property
    def content(self) -> str:
        """What tells its files from all others: their sha256."""
        return "+".join(file.sha256 for file in self.files)


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds."""

    spec: ModelSpec
    artifacts: tuple[ManifestArtifact, ...]

    def __post_init__(self) -> None:
        names = [file.name for artifact in self.artifacts for file in artifact.files]
        _require(len(set(names)) == len(names), "a file is named twice")


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` of the bundle at `folder`.

    Raises ArtifactError where it is missing, and SpecError where it is not what `write_manifest` wrote.
    """
    path = folder / MANIFEST_NAME
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_MANIFEST_BYTES)
    except OSError as error:
        raise ArtifactError(
            f"{folder}: no bundle, cannot read {MANIFEST_NAME}: {error.strerror};"
            " give the folder that `fcos-edge export` wrote"
        ) from None
    try:
        return parse_manifest(text)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def parse_manifest(text: str | bytes) -> Manifest:
    """Read what `dump_manifest` returned. Raises SpecError for anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise SpecError("manifest: not a JSON document; copy the bundle again") from None
    _require(isinstance(document, dict), "expected a JSON object")
    values = dict(document)
    check_version("manifest", values.pop("version", None), MANIFEST_VERSION)
    check_keys("manifest", values, {"spec", "artifacts"})
    _require(isinstance(values["artifacts"], list), "artifacts must be a list")
    return Manifest(ModelSpec.from_dict(values["spec"]), tuple(map(_artifact, values["artifacts"])))


def dump_manifest(manifest: Manifest) -> str:
    """The text of `manifest.json`; the same values give the same bytes."""
    artifacts = [
        {
            "files": [vars(file) for file in artifact.files],
            "format": artifact.format,
            "precision": artifact.precision,
            "verify": artifact.verify,
        }
        for artifact in manifest.artifacts
    ]
    version = "{}.{}".format(*MANIFEST_VERSION)
    document = {"version": version, "spec": manifest.spec.to_dict(), "artifacts": artifacts}
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into `folder`."""
    (folder / MANIFEST_NAME).write_text(dump_manifest(manifest), encoding="utf-8")


def describe_file(path: Path) -> FileEntry:
    """The entry of the file at `path`: its name, size and sha256."""
    return FileEntry(path.name, path.stat().st_size, sha256_of(path))


def check_files(folder: Path, artifact: ManifestArtifact) -> Path:
    """The path of `artifact`'s main file, once all its files are what the manifest says.

    Raises ArtifactError for a file that is missing, leaves the folder, or has another content.
    """
    root = folder.resolve()
    for entry in artifact.files:
        path = folder / entry.name
        if not path.is_file():
            raise ArtifactError(f"{path}: missing, but in {MANIFEST_NAME}; copy the bundle again")
        if path.resolve().parent != root:
            raise ArtifactError(f"{path}: a link that leaves the bundle; copy the file itself")
        if (size := path.stat().st_size) != entry.bytes:
            raise ArtifactError(f"{path}: {size} bytes, expected {entry.bytes}; copy the bundle again")
        if sha256_of(path) != entry.sha256:
            raise ArtifactError(f"{path}: sha256 differs from {MANIFEST_NAME}'s; copy the bundle again")
    return folder / artifact.name


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    # One small buffer that stays in the cache: half the time of reading megabytes, at every start.
    block = memoryview(bytearray(1 << 18))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


def _artifact(document: object) -> ManifestArtifact:
    values = _object(document, {"files", "format", "precision", "verify"})
    _require(isinstance(values["files"], list), "an artifact's files must be a list")
    _require(
        is_json_object(values["verify"]), "an artifact's verify must be a JSON object, at most 64 levels deep"
    )
    files = tuple(map(_file_entry, values["files"]))
    return ManifestArtifact(
        files, cast(Format, values["format"]), cast(Precision, values["precision"]), values["verify"]
    )


def _file_entry(document: object) -> FileEntry:
    values = _object(document, {"name", "bytes", "sha256"})
    _require(isinstance(values["name"], str), "a file's name must be text")
    _require(type(values["bytes"]) is int, "a file's bytes must be an integer")
    _require(isinstance(values["sha256"], str), "a file's sha256 must be text")
    return FileEntry(**values)


def _object(document: object, keys: set[str]) -> dict[str, Any]:
    _require(isinstance(document, dict), "expected a JSON object")
    values = cast(dict[str, Any], document)
    check_keys("manifest", values, keys)
    return values


def _require(condition: bool, wanted: str) -> None:
    if not condition:
        raise SpecError(f"manifest: {wanted}; export the bundle again")
