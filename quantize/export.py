"""Export: a checkpoint becomes a bundle, and the bundle exists only if all of it was verified.

graph -> record -> artifacts -> golden pictures -> verify -> rename into place
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from fcos_edge.artifact import Format, Precision
from fcos_edge.bundle import RECORD_NAME, Manifest, ManifestArtifact, describe_file, write_manifest
from fcos_edge.errors import UsageError
from fcos_edge.golden import write_golden
from fcos_edge.quantize.calibrate import calibrate
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.formats import load_writer
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.make_golden import golden_license, golden_sources, make_golden
from fcos_edge.quantize.model_card import model_card
from fcos_edge.quantize.placing import check_replaceable, placed_when_done
from fcos_edge.quantize.record import Record
from fcos_edge.runtime import UInt8Array
from fcos_edge.train.checkpoint import Checkpoint
from fcos_edge.verify import VerifyReport, verify_bundle


def export(
    checkpoint: Checkpoint,
    out_dir: Path,
    formats: Sequence[str],
    *,
    is_int8: bool,
    pictures: Iterable[UInt8Array] | None = None,
    say: Callable[[str], None] = print,
) -> VerifyReport:
    """Write the bundle `out_dir`; returns how each artifact compared.

    pictures  (h, w, 3) uint8 BGR, to calibrate on; None takes the checkpoint's own record

    Raises UsageError where `out_dir` is something else than a bundle, or there is neither record nor
    pictures, and GateError where an artifact is not the PyTorch model: then nothing is written.
    """
    writers = [load_writer(name) for name in formats]
    check_replaceable(out_dir)
    spec, thresholds = checkpoint.spec, checkpoint.operating_thresholds
    say("folding the network")
    graph = deploy(checkpoint.network, spec.input_hw)
    record = _make_record(checkpoint, graph, pictures, say) if is_int8 else None
    with placed_when_done(out_dir) as work:
        artifacts = []
        for writer in writers:
            for precision in writer.PRECISIONS:
                if precision == "int8" and record is None:
                    continue
                say(f"writing {writer.FORMAT} {precision}")
                files = writer.write(work, graph, record, spec, precision, thresholds)
                entries = tuple(map(describe_file, files))
                artifacts.append(
                    ManifestArtifact(entries, cast(Format, writer.FORMAT), cast(Precision, precision))
                )
        say("running the golden pictures in PyTorch" + (" and in the integer simulator" if record else ""))
        sources = golden_sources()
        golden = make_golden(checkpoint.network, graph, record, spec, thresholds, sources)
        write_golden(work, golden, sources, golden_license())
        write_manifest(work, Manifest(spec, tuple(artifacts)))
        say("verifying every artifact")
        report = verify_bundle(work)
        report.require()
        if report.skipped:
            raise UsageError(
                f"{report.skipped[0]}: no runtime here verifies it; pip install 'fcos-edge[export]'"
            )
        figures = {row.file: row.to_dict() for row in report.artifacts}
        manifest = Manifest(spec, tuple(replace(row, verify=figures[row.name]) for row in artifacts))
        write_manifest(work, manifest)
        if record is not None:
            (work / RECORD_NAME).write_text(json.dumps(record.to_dict(), sort_keys=True) + "\n")
        count = len(record.picture_sha256) if record else 0
        card = model_card(manifest, thresholds, checkpoint.metrics, count)
        (work / "README.md").write_text(card, encoding="utf-8")
    return replace(report, folder=out_dir)


def _make_record(
    checkpoint: Checkpoint, graph: Graph, pictures: Iterable[UInt8Array] | None, say: Callable[[str], None]
) -> Record:
    """From pictures where there are some, else the checkpoint's own."""
    if pictures is not None:
        say("calibrating")
        return calibrate(graph, pictures, checkpoint.spec)
    if checkpoint.record is None:
        raise UsageError("the checkpoint holds no calibration record; give pictures with --data")
    return Record.from_dict(dict(checkpoint.record))
