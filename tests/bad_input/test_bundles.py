"""Bundles that are damaged or reach out of their folder, on the command line; folders that are no bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from fcos_edge.bundle import Manifest, ManifestArtifact, describe_file, write_manifest
from fcos_edge.cli import main
from fcos_edge.golden import write_golden
from fcos_edge.quantize.placing import placed_when_done
from fcos_edge.train.checkpoint import save_checkpoint
from tests.quantize.test_placing import tree, write_bundle
from tests.recordings import picture_bgr
from tests.runtimes.models import SPEC, write_onnx, write_openvino
from tests.small_checkpoint import small_checkpoint
from tests.small_golden import small_golden, write_sources


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as ONNX and OpenVINO, with golden pictures."""
    for package in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    folder.mkdir()
    onnx, xml = write_onnx(folder / "model.fp32.onnx"), write_openvino(folder / "model.fp32.xml")
    files = (describe_file(xml), describe_file(xml.with_suffix(".bin")))
    artifacts = (
        ManifestArtifact(files, "openvino", "fp32"),
        ManifestArtifact((describe_file(onnx),), "onnx", "fp32"),
    )
    write_manifest(folder, Manifest(SPEC, artifacts))
    write_golden(folder, small_golden(), write_sources(folder.parent), "CC0\n")
    return folder


@pytest.fixture(autouse=True)
def place(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    copy(whole, Path("bundle"))
    assert cv2.imwrite("street.png", picture_bgr())
    return tmp_path


def copy(folder: Path, to: Path) -> None:
    to.mkdir()
    for path in folder.iterdir():
        if path.is_dir():
            copy(path, to / path.name)
        else:
            (to / path.name).write_bytes(path.read_bytes())


def refused(argv: list[str], said: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    was = tree(place)
    assert main(argv) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert err.startswith(f"fcos-edge: {said}"), err
    assert tree(place) == was


def edited(*keys: str | int, value: Any) -> Callable[[], object]:
    """The manifest with one value changed."""

    def edit() -> None:
        document = json.loads(MANIFEST.read_text())
        target = document
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value
        MANIFEST.write_text(json.dumps(document))

    return edit


BIN, MANIFEST = Path("bundle/model.fp32.bin"), Path("bundle/manifest.json")
GOLDEN = Path("bundle/golden")
NAME: tuple[str | int, ...] = ("artifacts", 0, "files", 1, "name")


def flip_a_bit() -> None:
    content = bytearray(BIN.read_bytes())
    content[len(content) // 2] ^= 1
    BIN.write_bytes(content)


def cut_short() -> None:
    BIN.write_bytes(BIN.read_bytes()[:-1])


def link_out() -> None:
    """The file's own content, and its hash is right: but what it names may change any time."""
    BIN.rename("outside.bin")
    BIN.symlink_to(Path("outside.bin").resolve())


def link_out_through_a_folder() -> None:
    Path("elsewhere").mkdir()
    BIN.rename("elsewhere/model.fp32.bin")
    Path("bundle/inner").symlink_to(Path("elsewhere").resolve())
    edited(*NAME, value="inner/model.fp32.bin")()


def link_to_itself() -> None:
    BIN.unlink()
    BIN.symlink_to(BIN.name)


NEWER = "install the fcos-edge release that wrote it"
PLAIN = "is no plain name; export the bundle again"


@pytest.mark.parametrize("verb", ["detect", "verify"])
@pytest.mark.parametrize(("damage", "said"), [
    (flip_a_bit, "bundle/model.fp32.bin: sha256 differs from manifest.json's; copy the bundle again"),
    (cut_short, "bundle/model.fp32.bin: "),
    (BIN.unlink, "bundle/model.fp32.bin: missing, but in manifest.json; copy the bundle again"),
    (link_out, "bundle/model.fp32.bin: a link that leaves the bundle; copy the file itself"),
    (link_out_through_a_folder, f"{MANIFEST}: manifest: file name 'inner/model.fp32.bin' {PLAIN}"),
    (link_to_itself, "bundle/model.fp32.bin: missing, but in manifest.json"),
    (edited(*NAME, value="../outside.bin"), f"{MANIFEST}: manifest: file name '../outside.bin' {PLAIN}"),
    (edited(*NAME, value="/etc/passwd"), f"{MANIFEST}: manifest: file name '/etc/passwd' {PLAIN}"),
    (edited(*NAME, value="..\\x.bin"), f"{MANIFEST}: manifest: file name '..\\\\x.bin'"),
    (edited(*NAME, value=".."), f"{MANIFEST}: manifest: file name '..' {PLAIN}"),
    (edited(*NAME, value="a\nb"), f"{MANIFEST}: manifest: file name 'a\\nb'"),
    (edited("artifacts", 0, "files", 1, "sha256", value="0" * 64), "bundle/model.fp32.bin: sha256 differs"),
    (edited("version", value="2.0"), f"{MANIFEST}: manifest: version 2.0 is not 1.x; {NEWER}"),
    (edited("spec", "version", value="2.0"), f"{MANIFEST}: spec: version 2.0 is not 1.x; {NEWER}"),
    (edited("spec", "soft_nms", value=1), f"{MANIFEST}: spec: unknown key 'soft_nms'; {NEWER}"),
    (lambda: MANIFEST.write_bytes(b""), f"{MANIFEST}: manifest: not a JSON document"),
    (lambda: MANIFEST.write_bytes(b"[" * 10**6), f"{MANIFEST}: manifest: not a JSON document"),
    (MANIFEST.unlink, "bundle: no bundle, cannot read manifest.json: No such file"),
])  # fmt: skip
def test_bundle__damaged(
    verb: str, damage: Callable[[], object], said: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damage()
    model = ["detect", "street.png", "--runtime", "openvino", "--model", "bundle"]
    refused(["verify", "bundle"] if verb == "verify" else model, said, place, capfd)


@pytest.mark.parametrize("verb", ["detect", "verify", "inspect"])
def test_bundle__not_there(verb: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["detect", "street.png", "--model", "nothing"] if verb == "detect" else [verb, "nothing"]
    refused(argv, "nothing: no", place, capfd)


@pytest.mark.parametrize(("damage", "said"), [
    (lambda: (GOLDEN / "golden.json").write_text("{"), f"{GOLDEN}/golden.json: not a JSON document"),
    ((GOLDEN / "golden.json").unlink, "bundle: no golden pictures (No such file or directory)"),
    ((GOLDEN / "first.png").unlink, f"{GOLDEN}/first.png: cannot read the picture"),
    ((GOLDEN / "first.npz").unlink, f"{GOLDEN}/first.npz: cannot read: No such file"),
    (lambda: (GOLDEN / "first.npz").write_bytes(b"PK"), f"{GOLDEN}/first.npz: not what `export` wrote"),
])  # fmt: skip
def test_golden__damaged(
    damage: Callable[[], object], said: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damage()
    refused(["verify", "bundle"], said, place, capfd)


# --- folders that export must not touch; the plain ones are in tests/commands/test_export.py


def hidden() -> None:
    Path("out").mkdir()
    Path("out/.git").mkdir()


def link_to_a_folder() -> None:
    Path("real").mkdir()
    Path("real/thesis.tex").write_text("years of work")
    Path("out").symlink_to("real")


@pytest.mark.parametrize("make", [hidden, link_to_a_folder, lambda: Path("out").symlink_to("out")])
def test_export__onto_what_is_no_bundle(
    make: Callable[[], object], place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make()
    save_checkpoint(Path("x.safetensors"), small_checkpoint())
    refused(["export", "x.safetensors", "--formats", "onnx", "--out", "out"], "out: ", place, capfd)


def test_place__link_inside_the_old_bundle_goes_and_not_what_it_names(place: Path) -> None:
    write_bundle(Path("out"), "of yesterday")
    Path("mine.md").write_text("mine")
    Path("out/README.md").unlink()
    Path("out/README.md").symlink_to(Path("mine.md").resolve())
    with placed_when_done(Path("out")) as folder:
        write_bundle(folder, "new")
    assert Path("mine.md").read_text() == "mine"
    assert Path("out/README.md").read_text() == "new"
    assert not Path("out/README.md").is_symlink()
