"""What one model file says about itself: `ArtifactInfo`, and the JSON document inside every artifact.

The document is `{"spec": ..., "artifact": ...}`. ONNX keeps it in its metadata, OpenVINO in rt_info,
TFLite in a ZIP trailer, each under the key or file name `DOCUMENT_KEY`; so a lone file is loadable and
keeps its class names.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from fcos_edge.errors import SpecError
from fcos_edge.spec import ModelSpec, check_keys, check_version, shown

DOCUMENT_KEY = "fcos_edge.json"
INFO_VERSION = (1, 0)

Format = Literal["onnx", "openvino", "tflite"]
Precision = Literal["fp32", "fp16", "int8", "w8"]
FORMATS: tuple[str, ...] = get_args(Format)
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True)
class OutputInfo:
    """One output, in the file's own order.

    name        `logits_p3`, ...
    scale       real value = (integer - zero_point) * scale; None for a float output
    zero_point  None for a float output
    """

    name: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class ArtifactInfo:
    """One model file.

    outputs               in the file's order, which runtimes match by name or by this order, never by shape
    operating_thresholds  per class, on the final score: what `detect`, drawings and miss rates use
    record_sha256         of the calibration record that the integers come from; "" for float artifacts
    tool_versions         package name -> version, of what wrote the file
    recipe                name of the recipe that int8 was decided by; "" for float artifacts
    """

    format: Format
    precision: Precision
    outputs: tuple[OutputInfo, ...]
    operating_thresholds: tuple[float, ...]
    record_sha256: str = ""
    tool_versions: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""

    @property
    def has_7bit_weights(self) -> bool:
        """Whether products of this file's weights fit int16, two and two."""
        return self.recipe.startswith("w7")

    @property
    def is_trained_in_int8(self) -> bool:
        """By quantization-aware training."""
        return "qat" in self.recipe.split("_")

    def to_dict(self) -> dict[str, Any]:
        """The info as JSON values; `from_dict` reads it back."""
        return {"version": "{}.{}".format(*INFO_VERSION), **json.loads(json.dumps(asdict(self)))}

    @classmethod
    def from_dict(cls, document: object) -> ArtifactInfo:
        """Read what `to_dict` wrote. Raises SpecError for anything else."""
        if not isinstance(document, dict):
            raise SpecError("artifact: expected a JSON object; export the model again")
        values = dict(document)
        check_version("artifact", values.pop("version", None), INFO_VERSION)
        values.setdefault("recipe", "")  # from before there were any
        check_keys("artifact", values, {f.name for f in fields(cls)})
        _require(values["format"] in FORMATS, f"format must be one of {', '.join(FORMATS)}")
        _require(values["precision"] in PRECISIONS, f"precision must be one of {', '.join(PRECISIONS)}")
        _require(isinstance(values["record_sha256"], str), "record_sha256 must be text")
        _require(isinstance(values["recipe"], str), "recipe must be text")
        _require(_is_text_map(values["tool_versions"]), "tool_versions must map names to versions")
        _require(_is_thresholds(values["operating_thresholds"]), "operating_thresholds must be in 0..1")
        _require(isinstance(values["outputs"], list), "outputs must be a list")
        values["outputs"] = tuple(map(_output_from_dict, values["outputs"]))
        values["operating_thresholds"] = tuple(map(float, values["operating_thresholds"]))
        return cls(**values)


def dump_document(spec: ModelSpec, info: ArtifactInfo) -> str:
    """The JSON text that an artifact carries; the same values give the same bytes."""
    return json.dumps({"spec": spec.to_dict(), "artifact": info.to_dict()}, indent=1, sort_keys=True)


def parse_document(text: str | bytes) -> tuple[ModelSpec, ArtifactInfo]:
    """Read what `dump_document` wrote, and check that spec and artifact belong together.

    Raises SpecError where the text is no such document, or the outputs or thresholds do not fit the spec.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise SpecError(f"{DOCUMENT_KEY}: not a JSON document; export the model again") from None
    if not isinstance(document, dict):
        raise SpecError(f"{DOCUMENT_KEY}: expected a JSON object; export the model again")
    check_keys(DOCUMENT_KEY, document, {"spec", "artifact"})
    spec = ModelSpec.from_dict(document["spec"])
    info = ArtifactInfo.from_dict(document["artifact"])
    found, wanted = Counter(output.name for output in info.outputs), Counter(spec.output_names)
    if odd := sorted((found - wanted) + (wanted - found)):
        raise SpecError(
            f"artifact: {found.total()} outputs do not fit the spec's {wanted.total()}: {shown(odd[0])} is"
            f" {found[odd[0]]} times there, expected {wanted[odd[0]]}; export the model again"
        )
    if len(info.operating_thresholds) != len(spec.classes):
        raise SpecError(
            f"artifact: {len(info.operating_thresholds)} operating thresholds for {len(spec.classes)}"
            " classes; export the model again"
        )
    return spec, info


def _output_from_dict(document: object) -> OutputInfo:
    _require(
        isinstance(document, dict) and set(document) == {"name", "scale", "zero_point"},
        "an output must have name, scale and zero_point",
    )
    assert isinstance(document, dict)
    name, scale, zero_point = document["name"], document["scale"], document["zero_point"]
    _require(isinstance(name, str), "an output's name must be text")
    if scale is None and zero_point is None:
        return OutputInfo(name)
    _require(
        isinstance(scale, int | float) and not isinstance(scale, bool) and 0 < scale < 1e30,
        f"the scale of {shown(name)} must be a positive number",
    )
    _require(
        isinstance(zero_point, int) and not isinstance(zero_point, bool) and -128 <= zero_point <= 255,
        f"the zero point of {shown(name)} must be an integer in -128..255",
    )
    return OutputInfo(name, float(scale), zero_point)


def _is_thresholds(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in value
    )


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _require(condition: bool, wanted: str) -> None:
    if not condition:
        raise SpecError(f"artifact: {wanted}; export the model again")
