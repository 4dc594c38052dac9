"""Write a deploy graph as OpenVINO IR: the ONNX model of the same graph and record, converted.

The conversion keeps the record's integers: weights stay int8 constants behind their scales, every pair of
QuantizeLinear and DequantizeLinear becomes one FakeQuantize of the same scale and zero point.

Only a pooling over one pixel is put in front of each Add that reads a convolution. OpenVINO would fuse the
two and leave out the rounding between them. In a region of equal pixels, such as the padding, each sum is
then wrong by the same amount, and the detector's outputs drift: with the embedded record by 2.9 one-bit
floors, against 1.2 with the rounding (benchmarks/int8_agreement.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import onnx
import openvino
from openvino._offline_transformations import apply_moc_transformations

from fcos_edge import __version__
from fcos_edge.artifact import DOCUMENT_KEY, ArtifactInfo, OutputInfo, Precision, dump_document
from fcos_edge.quantize.formats import PLAIN_OPTIONS, WriteOptions
from fcos_edge.quantize.formats.onnx import record_for, serialize
from fcos_edge.quantize.graph import Graph
from fcos_edge.quantize.record import Record
from fcos_edge.runtimes.openvino import shared_core
from fcos_edge.spec import ModelSpec
from fcos_edge.writing import raise_what_stopped_writing

FORMAT = "openvino"
PRECISIONS = ("fp32", "fp16", "int8")
ON_REQUEST = ("w8",)


def write(
    folder: Path,
    graph: Graph,
    record: Record | None,
    spec: ModelSpec,
    precision: str,
    operating_thresholds: tuple[float, ...],
    options: WriteOptions = PLAIN_OPTIONS,
) -> tuple[Path, ...]:
    """Write `model.<precision>.xml` and `.bin`."""
    quantization = record_for(precision, PRECISIONS + ON_REQUEST, record)
    info = ArtifactInfo(
        format="openvino",
        precision=cast(Precision, precision),
        outputs=tuple(OutputInfo(name) for name in graph.outputs),
        operating_thresholds=operating_thresholds,
        record_sha256=quantization.sha256 if quantization else "",
        recipe=quantization.recipe if quantization else "",
        tool_versions={"fcos-edge": __version__, "onnx": onnx.__version__, "openvino": openvino.__version__},
    )
    weights = "w8" if precision == "w8" else "fp32"  # OpenVINO makes float16 by itself
    # The two steps of `openvino.convert_model`, which also reports to its makers over the network. From
    # memory: a file's path would be recorded in the model.
    model = shared_core().read_model(
        serialize(graph, quantization, options=options, weights=weights, keeps_terms=True)
    )
    apply_moc_transformations(model, cf=False)
    model.set_rt_info(dump_document(spec, info), [DOCUMENT_KEY])
    path = folder / f"model.{precision}.xml"
    # Only the weights become fp16; int8 models keep float32 scales, or their integers would drift.
    weights_path = path.with_suffix(".bin")
    try:
        openvino.save_model(model, path, compress_to_fp16=precision == "fp16")
    except RuntimeError:
        for part in (weights_path, path):
            raise_what_stopped_writing(part)
        raise
    return path, weights_path
