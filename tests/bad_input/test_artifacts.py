"""Model files that cannot be used, on the command line: one line each, whatever the runtime says of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from fcos_edge.artifact import DOCUMENT_KEY, ArtifactInfo, dump_document
from fcos_edge.cli import main
from fcos_edge.document import read_onnx_document, read_openvino_document
from fcos_edge.spec import ModelSpec
from fcos_edge.trailer import append_trailer, read_trailer, strip_trailer
from tests.bad_input.verbs import Ended, run
from tests.quantize.test_placing import tree
from tests.recordings import picture_bgr
from tests.runtimes.models import SPEC, float_info, onnx_model, write_onnx, write_openvino, write_tflite
from tests.runtimes.tflite_model import tflite_info

SUFFIXES = (".onnx", ".xml", ".tflite")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same small network as model.onnx, model.xml with model.bin, and model.tflite."""
    for package in ("onnx", "onnxruntime", "openvino", "ai_edge_litert"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("whole")
    write_onnx(folder / "model.onnx")
    write_openvino(folder / "model.xml")
    write_tflite(folder / "model.tflite")
    return folder


@pytest.fixture(autouse=True)
def place(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for path in whole.iterdir():
        Path(path.name).write_bytes(path.read_bytes())
    assert cv2.imwrite("street.png", picture_bgr())
    return tmp_path


def refused(argv: list[str], said: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The verb ends with one line that begins so, and has written nothing."""
    was = tree(place)
    assert main(argv) == 2
    out, err = capfd.readouterr()  # of the process: runtimes have voices of their own
    assert (out, err.count("\n")) == ("", 1), err
    assert err.startswith(f"fcos-edge: {said}"), err
    assert len(err) < 600
    assert tree(place) == was


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def cut_by_one(path: Path) -> None:
    path.write_bytes(path.read_bytes().rstrip()[:-1])


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def of_another_format(path: Path) -> None:
    other = SUFFIXES[SUFFIXES.index(path.suffix) - 1]
    path.write_bytes(path.with_suffix(other).read_bytes())


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def without_spec(path: Path) -> None:
    """As another program writes it."""
    content = path.read_bytes()
    if path.suffix == ".tflite":
        path.write_bytes(strip_trailer(content))
    elif path.suffix == ".xml":
        path.write_bytes(content.replace(DOCUMENT_KEY.encode(), b"author"))
    else:
        path.write_bytes(content.replace(DOCUMENT_KEY.encode(), b"some-other.key"))


JPEG = cv2.imencode(".jpg", picture_bgr())[1].tobytes()


@pytest.mark.parametrize("verb", ["detect", "inspect"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", [
    pytest.param(cut(0), id="empty"),
    pytest.param(cut(0.1), id="a tenth"),
    pytest.param(cut(0.5), id="half"),
    pytest.param(cut(0.95), id="nearly whole"),
    pytest.param(cut_by_one, id="one byte short"),
    pytest.param(holding(b"\0" * 4096), id="zeros"),
    pytest.param(holding(b"\xff" * 4096), id="ones"),
    pytest.param(holding(JPEG), id="a picture"),
    pytest.param(holding(b"<html>404 Not Found</html>"), id="a web page"),
    pytest.param(holding(b'<!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>'), id="an entity"),
    pytest.param(of_another_format, id="another format"),
    pytest.param(without_spec, id="without spec"),
])  # fmt: skip
def test_file__damaged(
    verb: str, suffix: str, damage: Callable[[Path], object], place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = Path(f"model{suffix}")
    damage(path)
    argv = ["inspect", str(path)] if verb == "inspect" else ["detect", "street.png", "--model", str(path)]
    refused(argv, f"{path}: ", place, capfd)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file__is_a_folder(suffix: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = Path(f"model{suffix}")
    made_a_folder(path)
    for argv in (["inspect", str(path)], ["detect", "street.png", "--model", str(path)]):
        refused(argv, f"{path}: no bundle, cannot read manifest.json: No such file", place, capfd)


@pytest.mark.parametrize(("damage", "line"), [
    pytest.param(Path.unlink, "model.bin: missing or empty, but model.xml needs it", id="missing"),
    pytest.param(cut(0), "model.bin: missing or empty, but model.xml needs it", id="empty"),
    pytest.param(cut(0.5), "model.xml: OpenVINO cannot load it", id="half"),
])  # fmt: skip
def test_weights_of_openvino__damaged(
    damage: Callable[[Path], object], line: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(Path("model.bin"))
    refused(["detect", "street.png", "--model", "model.xml"], line, place, capfd)


def with_document(path: Path, document: str) -> None:
    """The same network with another document."""
    if path.suffix == ".tflite":
        path.write_bytes(append_trailer(path.read_bytes(), document))
        return
    if path.suffix == ".xml":
        from xml.sax.saxutils import quoteattr

        text = path.read_text()
        start = text.index(f"<{DOCUMENT_KEY} value=") + len(f"<{DOCUMENT_KEY} value=")
        end = text.index(" />", start)
        path.write_text(text[:start] + quoteattr(document) + text[end:])
        return
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {DOCUMENT_KEY: document})
    path.write_bytes(model.SerializeToString())


READERS = {".onnx": read_onnx_document, ".xml": read_openvino_document, ".tflite": read_trailer}


def changed(part: str, key: str, value: Any) -> Callable[[str], str]:
    def change(document: str) -> str:
        values = json.loads(document)
        values[part][key] = value
        return json.dumps(values)

    return change


def without(part: str) -> Callable[[str], str]:
    def change(document: str) -> str:
        values = json.loads(document)
        del values[part]
        return json.dumps(values)

    return change


NEWER = "install the fcos-edge release that wrote it"


@pytest.mark.parametrize("verb", ["detect", "inspect"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("change", "said"), [
    (changed("spec", "version", "2.0"), f"spec: version 2.0 is not 1.x; {NEWER}"),
    (changed("artifact", "version", "2.0"), f"artifact: version 2.0 is not 1.x; {NEWER}"),
    (changed("spec", "soft_nms", True), f"spec: unknown key 'soft_nms'; {NEWER}"),
    (without("spec"), f"{DOCUMENT_KEY}: key 'spec' is missing; export the model again"),
    (changed("spec", "strides", [8]), "artifact: 6 outputs do not fit the spec's 3: 'centerness_p4' is 1"),
    (changed("spec", "strides", [8, 16, 32]),
     "artifact: 6 outputs do not fit the spec's 9: 'centerness_p5' is 0 times there, expected 1; export"),
    (lambda document: document[:-20], f"{DOCUMENT_KEY}: not a JSON document; export the model again"),
    (lambda document: "", ""),
])  # fmt: skip
def test_document__that_does_not_fit(
    verb: str, suffix: str, change: Callable[[str], str], said: str,
    place: Path, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = Path(f"model{suffix}")
    with_document(path, change(READERS[suffix](path)))
    argv = ["inspect", str(path)] if verb == "inspect" else ["detect", "street.png", "--model", str(path)]
    refused(argv, f"{path}: {said}", place, capfd)


# A document that is whole, of another network: only the runtime knows.
THREE = replace(SPEC, classes=SPEC.classes[:3])
WIDER = replace(SPEC, input_hw=(64, 128))


def of_other_network(spec: ModelSpec, info: ArtifactInfo) -> str:
    return dump_document(spec, replace(info, operating_thresholds=(0.5,) * len(spec.classes)))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("spec", "said"), [
    (THREE, "[1, 8, 12, 4], expected [N, 8, 12, 3]; export it again"),
    (WIDER, "the input is [1, 64, 96, 3], expected [N, 64, 128, 3]; export it again"),
])  # fmt: skip
def test_network__of_another_spec(
    suffix: str, spec: ModelSpec, said: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = Path(f"model{suffix}")
    info = tflite_info("float32") if suffix == ".tflite" else float_info("onnx")
    with_document(path, of_other_network(spec, info))
    was = tree(place)
    assert main(["detect", "street.png", "--model", str(path)]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("INFO: ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"fcos-edge: {path}: ")
    assert lines[0].endswith(said)
    assert tree(place) == was


def test_network__without_an_output(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("model.onnx").write_bytes(onnx_model(rename={"logits_p4": "scores"}))
    argv = ["detect", "street.png", "--model", "model.onnx"]
    refused(argv, "model.onnx: output logits_p4 is missing; export it again", place, capfd)


# --- runtimes that are not there

# As where a package was never installed, for this process alone.
_HIDING = """
import importlib.machinery, sys
hidden, real = sys.argv[1].split(","), importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None:
        None if name.partition(".")[0] in hidden else real(name, path, target)
)
from fcos_edge.cli import main
sys.exit(main(sys.argv[2:]))
"""
ALL = "onnxruntime,openvino,ai_edge_litert,tflite_runtime"


def run_without(hidden: str, place: Path, *argv: str) -> Ended:
    return run([sys.executable, "-c", _HIDING, hidden, *argv], place)


@pytest.mark.parametrize(("hidden", "argv", "said"), [
    ("onnxruntime,openvino", ["--model", "model.onnx"],
     "no runtime for this model is installed; run: pip install 'fcos-edge[onnx]' or pip install"
     " 'fcos-edge[openvino]'"),
    (ALL, ["--model", "model.xml"],
     "no runtime for this model is installed; run: pip install 'fcos-edge[openvino]'"),
    (ALL, ["--model", "model.tflite"],
     "no runtime for this model is installed; run: pip install 'fcos-edge[tflite]'"),
    ("onnxruntime", ["--model", "model.onnx", "--runtime", "onnxruntime"],
     "no runtime for this model is installed; run: pip install 'fcos-edge[onnx]'"),
    ("torch", ["--model", "x.safetensors"],
     "x.safetensors is a checkpoint, which runs in PyTorch, and torch is not installed; give a bundle, or"
     " make one on a workstation: pip install 'fcos-edge[export]' && fcos-edge export --int8"),
])  # fmt: skip
def test_runtime__not_installed_says_what_to_install(
    hidden: str, argv: list[str], said: str, place: Path
) -> None:
    was = tree(place)
    ended = run_without(hidden, place, "detect", "street.png", *argv)
    assert (ended.code, ended.out, ended.complaints) == (2, "", (f"fcos-edge: {said}",))
    assert tree(place) == was


@pytest.mark.parametrize(("hidden", "argv", "said"), [
    ("torch", ["export"], "torch is not installed; run: pip install 'fcos-edge[export]'"),
    ("torch", ["inspect"], "torch is not installed; run: pip install 'fcos-edge[export]'"),
    ("torch", ["train", "--data", "d", "--out", "o"],
     "torch is not installed; run: pip install 'fcos-edge[export]'"),
])  # fmt: skip
def test_verb__without_its_package_says_what_to_install(
    hidden: str, argv: list[str], said: str, place: Path
) -> None:
    ended = run_without(hidden, place, *argv)
    assert (ended.code, ended.out, ended.complaints) == (2, "", (f"fcos-edge: {said}",))
