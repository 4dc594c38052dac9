"""Export: a checkpoint becomes a bundle, and the bundle exists only if all of it was verified.

graph -> record -> artifacts -> golden pictures -> verify -> rename into place
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from fcos_edge.artifact import Format, OutputInfo, Precision
from fcos_edge.bundle import MANIFEST_NAME, Manifest, ManifestArtifact, describe_file, write_manifest
from fcos_edge.detections import Detections
from fcos_edge.errors import GateError, UsageError
from fcos_edge.golden import Golden, GoldenPicture, write_golden
from fcos_edge.image import read_image_bgr
from fcos_edge.letterbox import Letterbox
from fcos_edge.postprocess import PostProcessor
from fcos_edge.quantize.calibrate import calibrate
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.formats import load_writer
from fcos_edge.quantize.graph import Conv, Graph
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.simulate import Simulator, dequantize
from fcos_edge.runtime import UInt8Array
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import Checkpoint
from fcos_edge.train.torch_runtime import TorchRuntime
from fcos_edge.verify import ArtifactReport, split_outputs, verify_bundle

FLOOR_FLIPS = 8


def export(
    checkpoint: Checkpoint,
    out_dir: Path,
    formats: Sequence[str],
    *,
    is_int8: bool,
    pictures: Iterable[UInt8Array] | None = None,
    say: Callable[[str], None] = print,
) -> list[ArtifactReport]:
    """Write the bundle `out_dir`; returns how each artifact compared.

    pictures  (h, w, 3) uint8 BGR, to calibrate on; None takes the checkpoint's own record

    Raises UsageError where `out_dir` is something else than a bundle, or there is neither record nor
    pictures, and GateError where an artifact is not the PyTorch model: then nothing is written.
    """
    writers = [load_writer(name) for name in formats]
    check_target(out_dir)
    spec = checkpoint.spec
    say("folding the network")
    graph = deploy(checkpoint.network, spec.input_hw)
    record = make_record(checkpoint, graph, pictures, say) if is_int8 else None
    work = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.absolute().parent))
    try:
        artifacts = []
        for writer in writers:
            for precision in writer.PRECISIONS:
                if precision == "int8" and record is None:
                    continue
                say(f"writing {writer.FORMAT} {precision}")
                files = writer.write(work, graph, record, spec, precision, checkpoint.operating_thresholds)
                artifacts.append((files, writer.FORMAT, precision))
        say("running the golden pictures in PyTorch" + (" and in the integer simulator" if record else ""))
        sources = sorted(golden_folder().glob("*.png"))
        golden = make_golden(checkpoint, graph, record, sources)
        write_golden(work, golden, sources, (golden_folder() / "LICENSE").read_text(encoding="utf-8"))
        _write_manifest(work, spec, artifacts, {})
        say("verifying every artifact")
        reports = verify_bundle(work)
        if failed := [f"{r.file} in {r.runtime}: {r.failures[0]}" for r in reports if r.failures]:
            raise GateError(f"not written: {'; '.join(failed)}")
        if missing := {files[0].name for files, _, _ in artifacts} - {r.file for r in reports}:
            raise UsageError(f'{sorted(missing)[0]} has no runtime to verify it; pip install "fcos-edge[export]"')
        _write_manifest(work, spec, artifacts, {r.file: r for r in reports})
        if record is not None:
            (work / "calibration.json").write_text(json.dumps(record.to_dict(), sort_keys=True) + "\n")
        (work / "README.md").write_text(model_card(checkpoint), encoding="utf-8")
        work.chmod(0o755)
        _put_in_place(work, out_dir)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return reports


def check_target(out_dir: Path) -> None:
    """Raise UsageError where `out_dir` exists and is no bundle, or its parent does not exist."""
    if not out_dir.absolute().parent.is_dir():
        raise UsageError(f"{out_dir}: its parent folder does not exist; create it or choose another --out")
    if out_dir.exists() and not (out_dir / MANIFEST_NAME).is_file():
        raise UsageError(f"{out_dir}: exists and is no bundle; choose another --out")


def golden_folder() -> Path:
    """The free pictures that come with the package."""
    import fcos_edge

    return Path(fcos_edge.__file__).parent / "golden_pictures"


def make_record(
    checkpoint: Checkpoint, graph: Graph, pictures: Iterable[UInt8Array] | None, say: Callable[[str], None]
) -> Record:
    """From pictures where there are some, else the checkpoint's own."""
    if pictures is not None:
        say("calibrating")
        return calibrate(graph, pictures, checkpoint.spec)
    if checkpoint.record is None:
        raise UsageError("the checkpoint holds no calibration record; give pictures with --data")
    return Record.from_dict(dict(checkpoint.record))


def make_golden(checkpoint: Checkpoint, graph: Graph, record: Record | None, sources: Sequence[Path]) -> Golden:
    """What PyTorch and the simulator say to the source pictures."""
    spec = checkpoint.spec
    runtime, postprocess = TorchRuntime(checkpoint.network, spec), PostProcessor(spec)
    simulator = Simulator(graph, record) if record else None
    pictures = []
    for source in sources:
        image_bgr = read_image_bgr(source)
        letterbox = Letterbox.from_spec(spec, (image_bgr.shape[0], image_bgr.shape[1]))
        images = letterbox.apply(image_bgr)[None]
        raw = runtime.run(images)
        candidates: Detections = postprocess(raw, [letterbox])[0]
        integers = {} if simulator is None else {k: v[0] for k, v in simulator.run(images).items()}
        operating = candidates.filtered(checkpoint.operating_thresholds)
        fp32 = split_outputs(raw, spec)
        pictures.append(GoldenPicture(source.name, images, fp32, integers, candidates, operating))
    if record is None or simulator is None:
        return Golden(tuple(pictures))
    points = {name: record.points[graph.outputs[name]] for name in spec.output_names}
    outputs = tuple(OutputInfo(name, point.scale, point.zero_point) for name, point in points.items())
    has_float = any(isinstance(node, Conv) and node.name in record.float_nodes for node in graph.nodes)
    floor = one_bit_floor(simulator, graph, record, [picture.images for picture in pictures])
    return Golden(tuple(pictures), outputs, record.sha256, floor, not has_float)


def one_bit_floor(simulator: Simulator, graph: Graph, record: Record, inputs: Sequence[UInt8Array]) -> float:
    """Mean change of the logits when the lowest bit of one input value flips, over seeded flips."""
    generator = np.random.default_rng(0)
    changes = []
    for images in inputs:
        before = dequantize(graph, record, simulator.run(images))
        for _ in range(max(FLOOR_FLIPS // len(inputs), 1)):
            flipped = images.copy()
            position = tuple(int(generator.integers(side)) for side in images.shape)
            flipped[position] ^= 1
            after = dequantize(graph, record, simulator.run(flipped))
            logits = [name for name in before if name.startswith("logits")]
            off = np.concatenate([np.abs(after[name] - before[name]).ravel() for name in logits])
            changes.append(float(off.mean()))
    return float(np.mean(changes))


def model_card(checkpoint: Checkpoint) -> str:
    """The bundle's README."""
    spec = checkpoint.spec
    lines = [f"# {spec.name}", "", f"FCOS detector, input {spec.input_hw[0]}x{spec.input_hw[1]}, classes: "
             f"{', '.join(spec.classes)}.", "", "Operating thresholds (best F1 on held-out pictures): "
             + ", ".join(f"{n} {t:.2f}" for n, t in zip(spec.classes, checkpoint.operating_thresholds, strict=True))
             + ".", "", "## Accuracy (PyTorch, float32)", "",
             "```json", json.dumps(dict(checkpoint.metrics), indent=1), "```", ""]  # fmt: skip
    return "\n".join(lines)


def _write_manifest(
    work: Path,
    spec: ModelSpec,
    artifacts: Sequence[tuple[tuple[Path, ...], str, str]],
    reports: dict[str, ArtifactReport],
) -> None:
    rows = []
    for files, format_name, precision in artifacts:
        figures = reports[files[0].name].figures if files[0].name in reports else {}
        entries = tuple(describe_file(file) for file in files)
        rows.append(ManifestArtifact(entries, _format(format_name), _precision(precision), figures))
    write_manifest(work, Manifest(spec, tuple(rows)))


def _format(name: str) -> Format:
    return name  # type: ignore[return-value]


def _precision(name: str) -> Precision:
    return name  # type: ignore[return-value]


def _put_in_place(work: Path, out_dir: Path) -> None:
    """Rename; an older bundle is moved aside first and deleted last."""
    if not out_dir.exists():
        os.rename(work, out_dir)
        return
    old = out_dir.with_name(f".{out_dir.name}.old-{os.getpid()}")
    os.rename(out_dir, old)
    try:
        os.rename(work, out_dir)
    except OSError:
        os.rename(old, out_dir)
        raise
    shutil.rmtree(old, ignore_errors=True)
