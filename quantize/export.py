"""Export: a checkpoint becomes a bundle, and the bundle exists only if all of it was verified.

graph -> record -> artifacts -> golden pictures -> verify -> rename into place
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from fcos_edge.artifact import Format, Precision
from fcos_edge.bundle import (
    RECORD_NAME,
    SENSITIVITY_NAME,
    SENSITIVITY_PLOT_NAME,
    Manifest,
    ManifestArtifact,
    describe_file,
    write_manifest,
)
from fcos_edge.errors import UsageError
from fcos_edge.golden import REFERENCE, write_golden
from fcos_edge.quantize.deploy import deploy
from fcos_edge.quantize.formats import PLAIN_OPTIONS, FormatWriter, WriteOptions, load_writer
from fcos_edge.quantize.make_golden import golden_license, golden_sources, make_golden
from fcos_edge.quantize.make_record import Int8Options, decide_int8, with_thresholds
from fcos_edge.quantize.model_card import model_card
from fcos_edge.quantize.placing import check_replaceable, placed_when_done
from fcos_edge.quantize.saturation import overflowing_layers, what_cpus_for
from fcos_edge.quantize.sensitivity_plot import write_sensitivity_plot
from fcos_edge.runtime import UInt8Array
from fcos_edge.sensitivity_table import write_table
from fcos_edge.train.checkpoint import Checkpoint
from fcos_edge.train.evaluation.evaluate import LabelledSplit
from fcos_edge.verify import VerifyReport, verify_bundle


@dataclass(frozen=True)
class ExportOptions:
    """What to write.

    int8        how it is decided; None: it is not written
    precisions  of the files; None: int8 where it is decided on, and the floats that a format usually has
    write       what a device asks of the files
    """

    formats: tuple[str, ...]
    int8: Int8Options | None = None
    precisions: tuple[str, ...] | None = None
    write: WriteOptions = PLAIN_OPTIONS

    def chosen(self, writer: FormatWriter) -> tuple[str, ...]:
        """The precisions of the files that a format gets."""
        if self.precisions is None:
            return tuple(p for p in writer.PRECISIONS if p != "int8" or self.int8 is not None)
        return tuple(p for p in (*writer.PRECISIONS, *writer.ON_REQUEST) if p in self.precisions)


def export(
    checkpoint: Checkpoint,
    out_dir: Path,
    options: ExportOptions,
    *,
    pictures: Sequence[UInt8Array] | None = None,
    labelled: LabelledSplit | None = None,
    say: Callable[[str], None] = print,
) -> VerifyReport:
    """Write the bundle `out_dir`; returns how each artifact compared.

    pictures  (h, w, 3) uint8 BGR, to calibrate on; None takes the checkpoint's own record
    labelled  pictures to measure on, where there are some; not those calibrated on

    Raises UsageError where `out_dir` is something else than a bundle, or there is neither record nor
    pictures, DataError where calibration and measurement share pictures, and GateError where an artifact
    is not the PyTorch model: then nothing is written.
    """
    writers = [load_writer(name) for name in options.formats]
    if not any(map(options.chosen, writers)):
        formats, precisions = ",".join(options.formats), ",".join(options.precisions or ())
        raise UsageError(f"--precisions {precisions}: no file of {formats} has any of them; name others")
    check_replaceable(out_dir)
    spec, thresholds = checkpoint.spec, checkpoint.operating_thresholds
    say("folding the network")
    graph = deploy(checkpoint.network, spec.input_hw)
    record, table = None, None
    if options.int8 is not None:
        record, table = decide_int8(checkpoint, graph, options.int8, pictures, labelled, say)
    with placed_when_done(out_dir) as work:
        if record is not None and pictures is not None:
            say("choosing thresholds for int8" + (f" on {labelled.name}" if labelled else ""))
            record = with_thresholds(record, checkpoint, graph, writers, pictures, labelled, work)
        artifacts = []
        thresholds_of = {REFERENCE: thresholds}
        for writer in writers:
            for precision in options.chosen(writer):
                say(f"writing {writer.FORMAT} {precision}")
                own = thresholds
                if record is not None and precision == "int8":
                    own = record.operating_thresholds.get(writer.FORMAT, thresholds)
                files = writer.write(work, graph, record, spec, precision, own, options.write)
                if own != thresholds:
                    thresholds_of[files[0].name] = own
                entries = tuple(map(describe_file, files))
                artifacts.append(
                    ManifestArtifact(entries, cast(Format, writer.FORMAT), cast(Precision, precision))
                )
        say("running the golden pictures in PyTorch" + (" and in the integer simulator" if record else ""))
        sources = golden_sources()
        golden = make_golden(checkpoint.network, graph, record, spec, thresholds, sources)
        golden = replace(golden, operating_thresholds=thresholds_of)
        meant_for = ""
        if record is not None:
            images = np.concatenate([picture.images for picture in golden.pictures])
            meant_for = what_cpus_for(overflowing_layers(graph, record, images))
            say(f"int8 is meant for {meant_for}")
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
        if table is not None:
            write_table(work / SENSITIVITY_NAME, table)
            write_sensitivity_plot(work / SENSITIVITY_PLOT_NAME, table, spec.name)
        count = len(record.picture_sha256) if record else 0
        card = model_card(manifest, thresholds, checkpoint.metrics, count, table, meant_for)
        (work / "README.md").write_text(card, encoding="utf-8")
    return replace(report, folder=out_dir)
