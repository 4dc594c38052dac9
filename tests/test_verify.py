"""Verification of real bundles: whole ones pass, and each planted fault is named.

A planted fault comes with the right hash in the manifest, unless the hash is what is tested: it stands for
a writer, a converter or a runtime that does something else than PyTorch.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcos_edge import verify
from fcos_edge.artifact import DOCUMENT_KEY, ArtifactInfo, OutputInfo, dump_document
from fcos_edge.bundle import Manifest, ManifestArtifact, describe_file, read_manifest, write_manifest
from fcos_edge.cli import main
from fcos_edge.cpu import Cpu, detect_cpu
from fcos_edge.errors import ArtifactError, FcosEdgeError, GateError, RuntimeUnavailableError
from fcos_edge.golden import write_golden
from fcos_edge.loading import read_document
from fcos_edge.runtimes.replay import save_recording
from fcos_edge.trailer import append_trailer, read_trailer
from fcos_edge.verify import verify_bundle
from tests.runtimes.models import SPEC, THRESHOLDS
from tests.small_golden import RECORD_SHA256, dequantized, raw_outputs, small_golden, write_sources

FILES = {
    "onnxruntime": ["model.fp32.onnx", "model.int8.onnx"],
    "openvino": ["model.fp32.xml", "model.fp16.xml", "model.int8.xml"],
    "tflite": ["model.fp32.tflite", "model.fp16.tflite", "model.int8.tflite"],
}
ALL_FILES = [name for names in FILES.values() for name in names]


@pytest.fixture
def bundle_of(embedded_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Call it with model files: a bundle with these and the golden pictures, to be changed."""

    def take(*names: str) -> Path:
        manifest = read_manifest(embedded_bundle)
        artifacts = tuple(artifact for artifact in manifest.artifacts if artifact.name in names)
        assert len(artifacts) == len(names)
        folder = tmp_path / "bundle"
        shutil.copytree(embedded_bundle / "golden", folder / "golden")
        for file in (file for artifact in artifacts for file in artifact.files):
            shutil.copyfile(embedded_bundle / file.name, folder / file.name)
        write_manifest(folder, Manifest(manifest.spec, artifacts))
        return folder

    return take


def describe_again(folder: Path) -> None:
    """Give the manifest the hashes of the files as they are now."""
    manifest = read_manifest(folder)
    artifacts = tuple(
        replace(artifact, files=tuple(describe_file(folder / file.name) for file in artifact.files))
        for artifact in manifest.artifacts
    )
    write_manifest(folder, Manifest(manifest.spec, artifacts))


def refused(folder: Path, error: type[FcosEdgeError], runtime: str | None = None) -> str:
    """The message of the error; one line."""
    with pytest.raises(error) as caught:
        verify_bundle(folder, runtime)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Whole bundles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", FILES)
def test_verify__whole_bundle_passes(embedded_bundle: Path, runtime: str) -> None:
    report = verify_bundle(embedded_bundle, runtime)
    report.require()
    assert report.passed
    assert [artifact.file for artifact in report.artifacts] == FILES[runtime]
    assert {artifact.runtime for artifact in report.artifacts} == {runtime}
    assert sorted(report.skipped) == sorted(name for name in ALL_FILES if name not in FILES[runtime])
    # Three pictures of fifteen outputs: an exact runtime is compared integer by integer.
    int8 = report.artifacts[-1]
    steps = [check.value for check in int8.checks if "in steps" in check.figure]
    is_exact = runtime != "openvino" and detect_cpu().has_vnni is True
    assert steps == [0.0] * (45 if is_exact else 0)


def test_verify__report_is_json(bundle_of: Callable[..., Path]) -> None:
    document = verify_bundle(bundle_of("model.fp32.onnx")).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["passed"], document["skipped"]) == (True, [])
    (artifact,) = document["artifacts"]
    assert (artifact["file"], artifact["precision"], artifact["runtime"]) == (
        "model.fp32.onnx", "fp32", "onnxruntime",
    )  # fmt: skip
    assert artifact["checks"]


@pytest.mark.parametrize(
    ("file", "has_note"),
    [
        ("model.int8.onnx", True),
        ("model.int8.xml", True),
        ("model.int8.tflite", False),  # XNNPACK does not saturate
        ("model.fp32.onnx", False),
    ],
)
def test_verify__cpu_that_saturates_is_noted(
    bundle_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, file: str, has_note: bool
) -> None:
    monkeypatch.setattr(verify, "detect_cpu", lambda: Cpu("x86_64", has_vnni=False, has_dotprod=None))
    (artifact,) = verify_bundle(bundle_of(file)).artifacts
    assert ("no VNNI" in artifact.note) == has_note
    assert not any("in steps" in check.figure for check in artifact.checks)  # nor is it exact


# Faults in model files ---------------------------------------------------------------------------------


def edit_onnx(path: Path, change: Callable[[Any], None]) -> None:
    import onnx

    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def change_constant(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """One initializer of an ONNX file; `change` gets it as an array."""

    def damage(path: Path) -> None:
        from onnx import numpy_helper

        def edit(model: Any) -> None:
            tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(change(array).astype(array.dtype), name))

        edit_onnx(path, edit)

    return damage


def last_bias(output: str, suffix: str = "") -> str:
    return f"head.{output.split('_')[0]}.{output}/bias{suffix}"


def exchange_outputs(first: str, second: str) -> Callable[[Path], None]:
    """The two last nodes of an ONNX file write each other's output."""

    def damage(path: Path) -> None:
        def edit(model: Any) -> None:
            names = {first: second, second: first}
            for node in model.graph.node:
                if node.output[0] in names:
                    node.output[0] = names[node.output[0]]

        edit_onnx(path, edit)

    return damage


def left_and_top(array: Any) -> Any:
    """The first two output channels exchanged: rows of a weight, or values of a bias."""
    return array[[1, 0, *range(2, len(array))]]


def zero_weights(file: str) -> Callable[[Path], None]:
    """64 KiB in the middle of the named file, which stands beside the model or is the model."""

    def damage(path: Path) -> None:
        path = path.with_name(file)
        content = bytearray(path.read_bytes())
        middle = len(content) // 2 & ~3
        content[middle : middle + 65536] = bytes(65536)
        if path.suffix == ".tflite":
            # Its checksum is that of the changed model, as a writer would leave it.
            content = bytearray(append_trailer(bytes(content), dump_document(*read_document(path))))
        path.write_bytes(content)

    return damage


@pytest.mark.parametrize(
    ("file", "damage", "what", "figure"),
    [
        # the bias of one class at one level
        ("model.fp32.onnx", change_constant(last_bias("logits_p5"), lambda bias: bias + np.eye(8)[3] / 2),
         "logits_p5", "largest difference to PyTorch / largest value is"),
        ("model.fp32.onnx", change_constant(last_bias("centerness_p7"), lambda bias: bias + 1),
         "centerness_p7", "largest difference to PyTorch / largest value is"),
        # top, left, right, bottom: boxes look nearly right
        ("model.fp32.onnx", change_constant("head.ltrb.ltrb_p4/weight", left_and_top),
         "ltrb_p4", "largest difference to PyTorch / largest value is"),
        # the normalization: another mean
        ("model.fp32.onnx", change_constant("input/zero_point", lambda point: point - 3),
         "logits_p3", "largest difference to PyTorch / largest value is"),
        ("model.int8.onnx", change_constant("input/zero_point", lambda point: point - 20),
         "logits", "is"),
        # an output's own scale
        ("model.int8.onnx", change_constant("head.ltrb.ltrb_p3/scale", lambda scale: scale * 2),
         "ltrb", "is"),
        # all classes of a level more probable
        ("model.int8.onnx", change_constant(last_bias("logits_p3", "/integers"), lambda bias: bias + 50_000),
         "logits", "is"),
        ("model.fp32.xml", zero_weights("model.fp32.bin"),
         "logits_p3", "largest difference to PyTorch / largest value is"),
        ("model.fp16.xml", zero_weights("model.fp16.bin"),
         "logits_p3", "largest difference to PyTorch / largest value is"),
        ("model.int8.xml", zero_weights("model.int8.bin"),
         "logits", "mean difference to the simulator in one-bit floors is"),
        ("model.fp32.tflite", zero_weights("model.fp32.tflite"),
         "logits_p3", "largest difference to PyTorch / largest value is"),
        ("model.int8.tflite", zero_weights("model.int8.tflite"), "logits", "is"),
    ],
)  # fmt: skip
def test_verify__fault_in_a_model_is_named(
    bundle_of: Callable[..., Path], file: str, damage: Callable[[Path], None], what: str, figure: str
) -> None:
    folder = bundle_of(file)
    damage(folder / file)
    describe_again(folder)
    report = verify_bundle(folder)
    assert not report.passed
    runtime = report.artifacts[0].runtime
    # On a CPU where int8 is exact the first failure names an output, elsewhere its branch.
    with pytest.raises(
        GateError, match=rf"^{file} in {runtime}: {what}.*{figure} [\d.]+, allowed at"
    ) as caught:
        report.require()
    assert "\n" not in str(caught.value)


def test_verify__two_levels_exchanged_are_refused(bundle_of: Callable[..., Path]) -> None:
    # Levels have other shapes: the runtime finds out before anything can be compared.
    folder = bundle_of("model.fp32.onnx")
    exchange_outputs("logits_p6", "logits_p7")(folder / "model.fp32.onnx")
    describe_again(folder)
    assert "model.fp32.onnx" in refused(folder, ArtifactError)


def test_verify__bias_of_one_integer_is_found_where_int8_is_exact(bundle_of: Callable[..., Path]) -> None:
    if not detect_cpu().has_vnni:
        pytest.skip("no runtime is exact on this CPU")
    folder = bundle_of("model.int8.onnx")
    # 300 of these integers are about one step of the output.
    damage = change_constant(last_bias("centerness_p6", "/integers"), lambda bias: bias + 300)
    damage(folder / "model.int8.onnx")
    describe_again(folder)
    (artifact,) = verify_bundle(folder).artifacts
    assert {check.what for check in artifact.failures} == {"centerness_p6"}


def test_verify__one_good_file_does_not_excuse_another(bundle_of: Callable[..., Path]) -> None:
    folder = bundle_of("model.fp32.onnx", "model.fp32.tflite")
    zero_weights("model.fp32.tflite")(folder / "model.fp32.tflite")
    describe_again(folder)
    report = verify_bundle(folder)
    assert [bool(artifact.failures) for artifact in report.artifacts] == [False, True]
    assert not report.passed
    with pytest.raises(GateError, match=r"^model\.fp32\.tflite in tflite: .*, and \d+ more$"):
        report.require()


@pytest.mark.parametrize("file", ["model.fp32.onnx", "model.int8.bin", "model.int8.tflite"])
def test_verify__changed_byte_is_refused_by_the_hash(bundle_of: Callable[..., Path], file: str) -> None:
    folder = bundle_of(file.replace(".bin", ".xml"))
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    message = refused(folder, ArtifactError)
    assert file in message
    assert "sha256 differs" in message


@pytest.mark.parametrize("file", ["model.fp32.onnx", "model.int8.bin", "manifest.json"])
def test_verify__missing_file(bundle_of: Callable[..., Path], file: str) -> None:
    folder = bundle_of("model.fp32.onnx", "model.int8.xml")
    (folder / file).unlink()
    assert file in refused(folder, ArtifactError)


# Files of another model --------------------------------------------------------------------------------


def edit_onnx_document(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        def edit(model: Any) -> None:
            entry = next(entry for entry in model.metadata_props if entry.key == DOCUMENT_KEY)
            document = json.loads(entry.value)
            change(document)
            entry.value = json.dumps(document)

        edit_onnx(path, edit)

    return damage


def edit_tflite_document(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        document = json.loads(read_trailer(path))
        change(document)
        path.write_bytes(append_trailer(path.read_bytes(), json.dumps(document)))

    return damage


def rename(document: Any) -> None:
    document["spec"]["name"] = "another"


def other_convention(document: Any) -> None:
    document["spec"]["nms_iou"] = 0.5


def other_record(document: Any) -> None:
    document["artifact"]["record_sha256"] = "0" * 64


def no_record(document: Any) -> None:
    document["artifact"]["record_sha256"] = ""


def other_precision(document: Any) -> None:
    document["artifact"]["precision"] = "fp16"


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.fp32.onnx", edit_onnx_document(rename)),
        ("model.fp32.onnx", edit_onnx_document(other_convention)),
        ("model.fp32.onnx", edit_onnx_document(other_precision)),
        ("model.int8.onnx", edit_onnx_document(other_record)),
        ("model.int8.onnx", edit_onnx_document(no_record)),
        ("model.int8.tflite", edit_tflite_document(other_record)),
    ],
)
def test_verify__file_of_another_model_is_refused(
    bundle_of: Callable[..., Path], file: str, damage: Callable[[Path], None]
) -> None:
    folder = bundle_of(file)
    damage(folder / file)
    describe_again(folder)
    assert f"{file}: is not the model of this bundle" in refused(folder, ArtifactError)


def test_verify__fp32_under_the_name_of_int8_is_refused(bundle_of: Callable[..., Path]) -> None:
    folder = bundle_of("model.fp32.onnx", "model.int8.onnx")
    shutil.copyfile(folder / "model.fp32.onnx", folder / "model.int8.onnx")
    describe_again(folder)
    assert "model.int8.onnx: is not the model" in refused(folder, ArtifactError)


# Golden pictures ---------------------------------------------------------------------------------------


def test_verify__replaced_golden_picture_fails_the_letterbox(bundle_of: Callable[..., Path]) -> None:
    folder = bundle_of("model.fp32.onnx")
    shutil.copyfile(folder / "golden" / "cat.png", folder / "golden" / "astronaut.png")
    (artifact,) = verify_bundle(folder).artifacts
    failure = artifact.failures[0]
    assert (failure.what, failure.figure) == ("astronaut.png", "letterbox difference in grey levels")
    assert failure.value > 100
    # The network gets the stored input: its outputs are right, the boxes are not, by the picture's size.
    assert {check.what for check in artifact.failures} == {"astronaut.png"}


@pytest.mark.parametrize("file", ["golden.json", "astronaut.npz", "cat.png"])
def test_verify__missing_golden_file(bundle_of: Callable[..., Path], file: str) -> None:
    folder = bundle_of("model.fp32.onnx")
    (folder / "golden" / file).unlink()
    assert str(folder) in refused(folder, FcosEdgeError)


def test_verify__arrays_of_another_picture_fail(bundle_of: Callable[..., Path]) -> None:
    folder = bundle_of("model.fp32.onnx")
    shutil.copyfile(folder / "golden" / "cat.npz", folder / "golden" / "astronaut.npz")
    (artifact,) = verify_bundle(folder).artifacts
    assert artifact.failures[0].figure == "letterbox difference in grey levels"
    assert {check.what for check in artifact.failures} == {"astronaut.png"}


def test_verify__golden_pictures_without_a_record_cannot_prove_int8(bundle_of: Callable[..., Path]) -> None:
    folder = bundle_of("model.int8.onnx")
    index = folder / "golden" / "golden.json"
    document = json.loads(index.read_text())
    index.write_text(json.dumps({**document, "outputs": [], "one_bit_floors": {}, "record_sha256": ""}))
    assert "is not the model of this bundle" in refused(folder, ArtifactError)
    edit_onnx_document(no_record)(folder / "model.int8.onnx")
    describe_again(folder)
    assert "is not the model of this bundle" in refused(folder, ArtifactError)


# Runtimes ----------------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it with the packages that are to count as installed."""

    def set_installed(*packages: str) -> None:
        def found(runtime: Any) -> str | None:
            if not runtime.PACKAGES:
                return ""
            return next((name for name in runtime.PACKAGES if name in packages), None)

        monkeypatch.setattr(verify, "installed_package", found)

    return set_installed


def test_verify__file_without_installed_runtime_is_skipped(
    bundle_of: Callable[..., Path], installed: Callable[..., None]
) -> None:
    folder = bundle_of("model.fp32.onnx", "model.fp32.xml", "model.fp32.tflite")
    installed("onnxruntime")
    report = verify_bundle(folder)
    assert [artifact.file for artifact in report.artifacts] == ["model.fp32.onnx"]
    assert report.skipped == ("model.fp32.xml", "model.fp32.tflite")


def test_verify__no_runtime_installed_says_what_to_install(
    bundle_of: Callable[..., Path], installed: Callable[..., None]
) -> None:
    installed()
    message = refused(bundle_of("model.fp32.onnx"), RuntimeUnavailableError)
    for extra in ("onnx", "openvino", "tflite"):
        assert f"pip install 'fcos-edge[{extra}]'" in message


@pytest.mark.parametrize(
    ("packages", "runtime", "message"),
    [
        (("onnxruntime",), "openvino", "openvino is not installed; run: pip install 'fcos-edge[openvino]'"),
        (("onnxruntime",), "caffe", "runtime 'caffe' is none of"),
        (("tflite_runtime",), "tflite", "no file for tflite; it has model.fp32.onnx"),
        ((), "replay", "no file for replay; it has model.fp32.onnx"),  # there is nothing to install
    ],
)
def test_verify__runtime_that_cannot_be_had(
    bundle_of: Callable[..., Path],
    installed: Callable[..., None],
    packages: tuple[str, ...],
    runtime: str,
    message: str,
) -> None:
    installed(*packages)
    assert message in refused(bundle_of("model.fp32.onnx"), RuntimeUnavailableError, runtime)


# Without a runtime: recordings -------------------------------------------------------------------------


def recorded_bundle(tmp_path: Path, precision: str) -> Path:
    """A bundle whose only model file plays what the golden pictures want."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    golden = small_golden()
    write_golden(folder, golden, write_sources(tmp_path), "none")
    info = ArtifactInfo("onnx", "fp32", tuple(map(OutputInfo, SPEC.output_names)), THRESHOLDS)
    if precision == "int8":
        info = replace(info, precision="int8", record_sha256=RECORD_SHA256)
    outputs = [
        dequantized(picture) if precision == "int8" else dict(picture.fp32) for picture in golden.pictures
    ]
    save_recording(folder / "model.npz", SPEC, info, list(map(raw_outputs, outputs)))
    entry = ManifestArtifact((describe_file(folder / "model.npz"),), "onnx", info.precision)
    write_manifest(folder, Manifest(SPEC, (entry,)))
    return folder


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_verify__runtime_that_needs_no_package(tmp_path: Path, precision: str) -> None:
    report = verify_bundle(recorded_bundle(tmp_path, precision))
    assert [artifact.runtime for artifact in report.artifacts] == ["replay"]
    report.require()


# The command -------------------------------------------------------------------------------------------


def test_command__failed_check_is_exit_code_1_and_stands_in_the_table(
    bundle_of: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundle_of("model.fp32.onnx")
    change_constant(last_bias("logits_p5"), lambda bias: bias + 1)(folder / "model.fp32.onnx")
    describe_again(folder)
    assert main(["verify", str(folder)]) == 1
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("model.fp32.onnx")
    assert "logits_p5: largest difference to PyTorch" in row
    assert main(["verify", str(folder), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_command__damaged_bundle_is_exit_code_2_and_one_line(
    bundle_of: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bundle_of("model.fp32.onnx")
    (folder / "model.fp32.onnx").write_bytes(b"")
    assert main(["verify", str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


# As `python -m fcos_edge` on a computer that has neither torch nor the workstation's code.
PROGRAM = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "fcos_edge.train", "fcos_edge.quantize"):
            raise ModuleNotFoundError(f"{name} is blocked on the device", name=name)

sys.meta_path.insert(0, Blocked())
runpy.run_module("fcos_edge", run_name="__main__", alter_sys=True)
"""


def test_command__needs_no_torch(embedded_bundle: Path, repo_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "verify", str(embedded_bundle), "--json"],
        cwd=repo_root,
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["passed"] is True
    assert [artifact["file"] for artifact in document["artifacts"]] == ALL_FILES
