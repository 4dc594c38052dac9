"""`fcos-edge inspect`: what a model file, a bundle or a checkpoint holds. Only a checkpoint needs torch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fcos_edge.bundle import RECORD_NAME, SENSITIVITY_NAME, SENSITIVITY_PLOT_NAME, read_manifest
from fcos_edge.console import print_json, print_table
from fcos_edge.errors import ArtifactError, CheckpointError, UsageError
from fcos_edge.sensitivity_table import MOST_HARMFUL, SensitivityTable, harm_bar, read_table

SUMMARY = "show what a model file, a bundle or a checkpoint holds: spec, layers, scales, sizes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="FILE|BUNDLE|CHECKPOINT", nargs="?", type=Path,
        help="what to look at (default: the embedded checkpoint)",
    )  # fmt: skip
    parser.add_argument(
        "--layers", action="store_true",
        help="every layer: of a checkpoint its parameters and multiply-adds, of a bundle its quantization"
        f" and what harm that does (default: the {MOST_HARMFUL} most harmful)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from fcos_edge import embedded

    path: Path = args.path or embedded.CHECKPOINT
    if path.is_dir():
        document = _bundle(path)
    elif path.suffix == ".safetensors":
        document = _checkpoint(path)
    else:
        document = _artifact(path)
    if args.layers and "layers" not in document:
        raise UsageError(f"{path}: --layers needs a checkpoint, or a bundle with a {RECORD_NAME}")
    if not args.layers:
        document.pop("layers", None)
    if args.json:
        print_json(document)
    else:
        _print(document)
    return 0


def _checkpoint(path: Path) -> dict[str, Any]:
    from fcos_edge.quantize.count import LayerCost, layer_costs, output_cost
    from fcos_edge.quantize.deploy import deploy
    from fcos_edge.train.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    spec = checkpoint.spec
    layers: tuple[LayerCost, ...] = ()
    obstacle = None
    try:
        layers = layer_costs(deploy(checkpoint.network, spec.input_hw))
    except CheckpointError as error:  # it can be trained and measured, but not exported
        obstacle = str(error)
    outputs = output_cost(spec.num_locations, len(spec.classes))
    return {
        "kind": "checkpoint",
        "file": path.name,
        "bytes": path.stat().st_size,
        "spec": spec.to_dict(),
        "operating_thresholds": list(checkpoint.operating_thresholds),
        "metrics": dict(checkpoint.metrics),
        "network": checkpoint.network_config.to_dict(),
        "cost": {
            "parameters": sum(p.numel() for p in checkpoint.network.parameters()),
            "deployed_parameters": None if obstacle else sum(layer.parameters for layer in layers),
            "multiply_adds": None if obstacle else sum(layer.multiply_adds for layer in layers),
            **asdict(outputs),
        },
        "cannot_be_exported": obstacle,
        "record": None if checkpoint.record is None else _record_summary(checkpoint.record),
        "layers": [asdict(layer) for layer in layers],
    }


def _bundle(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    document: dict[str, Any] = {
        "kind": "bundle",
        "file": folder.name,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "spec": manifest.spec.to_dict(),
        "artifacts": [
            {
                "file": artifact.name, "format": artifact.format, "precision": artifact.precision,
                "bytes": sum(entry.bytes for entry in artifact.files),
                "sha256": artifact.files[0].sha256, "verify": dict(artifact.verify),
            }
            for artifact in manifest.artifacts
        ],
        "golden": sorted(path.name for path in folder.glob("golden/*") if path.is_file()),
        "record": None,
        "sensitivity": None,
    }  # fmt: skip
    table_path = folder / SENSITIVITY_NAME
    if table_path.is_file():
        plot = folder / SENSITIVITY_PLOT_NAME
        document["sensitivity"] = {
            **read_table(table_path).to_dict(), "plot": str(plot) if plot.is_file() else None,
        }  # fmt: skip
    record_path = folder / RECORD_NAME
    if record_path.is_file():
        record = _read_record(record_path)
        document["record"] = _record_summary(record)
        document["layers"] = _record_layers(record)
    return document


def _artifact(path: Path) -> dict[str, Any]:
    from fcos_edge.loading import read_document

    spec, info = read_document(path)
    return {
        "kind": "artifact",
        "file": path.name,
        "bytes": path.stat().st_size,
        "spec": spec.to_dict(),
        "artifact": info.to_dict(),
    }


def _read_record(path: Path) -> Mapping[str, Any]:
    import json

    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = type(error).__name__
        raise ArtifactError(f"{path}: no calibration record ({reason}); copy the bundle again") from None
    if not isinstance(document, dict):
        raise ArtifactError(f"{path}: no calibration record; copy the bundle again")
    return document


def _record_summary(document: Mapping[str, Any]) -> dict[str, Any]:
    from fcos_edge.quantize.record import Record

    record = Record.from_dict(dict(document))
    scales = [point.scale for point in record.points.values()]
    weight_scales = [scale for of_layer in record.weight_scales.values() for scale in of_layer.tolist()]
    return {
        "sha256": record.sha256,
        "points": len(record.points),
        "activation_scales": [min(scales, default=0.0), max(scales, default=0.0)],
        "convolutions": len(record.weight_scales),
        "weight_scales": [min(weight_scales, default=0.0), max(weight_scales, default=0.0)],
        "float_nodes": list(record.float_nodes),
        "learned_rounding": sorted(record.rounded_weights),
        "pictures": len(record.picture_sha256),
    }


def _record_layers(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    from fcos_edge.quantize.record import Record

    record = Record.from_dict(dict(document))
    layers = []
    for name, point in record.points.items():
        weights = record.weight_scales.get(name)
        layers.append({
            "name": name, "scale": point.scale, "zero_point": point.zero_point,
            "weight_scales": None if weights is None else [float(weights.min()), float(weights.max())],
            "is_float": name in record.float_nodes,
        })  # fmt: skip
    return layers


def _print(document: dict[str, Any]) -> None:
    print(f"{document['kind']} {document['file']}, {document['bytes']:,} bytes\n")
    _print_spec(document["spec"])
    for name in ("cost", "artifact", "artifacts", "record", "golden", "sensitivity", "metrics", "layers"):
        if document.get(name):
            print()
            _PRINTERS[name](document)


def _print_spec(spec: Mapping[str, Any]) -> None:
    """Every convention on a line of its own, in the order of `ModelSpec`."""
    from fcos_edge.spec import ModelSpec

    for name in ModelSpec.__dataclass_fields__:
        value = spec[name]
        if name == "provenance":
            for key, part in value.items():
                print(f"  {key.replace('_', ' ')}: {part}")
        else:
            print(f"{name:<24}{', '.join(map(str, value)) if isinstance(value, list) else value}")


def _print_cost(document: dict[str, Any]) -> None:
    cost = document["cost"]
    classes, locations = len(document["spec"]["classes"]), f"{cost['locations']:,} locations"
    # Shared convolutions with a normalization per level become one convolution per level.
    if document["cannot_be_exported"]:
        print(f"parameters              {cost['parameters']:,}")
        print(f"cannot be exported      {document['cannot_be_exported']}")
    else:
        deployed = f"{cost['deployed_parameters']:,}"
        print(f"parameters              {cost['parameters']:,}, once deployed {deployed}")
        print(f"multiply-adds           {cost['multiply_adds']:,} per picture")
    print(f"output values           {cost['values']:,} = {locations} * ({classes} + 4 + 1)")
    print(f"with nine anchors       {cost['anchor_values']:,} = {locations} * 9 * ({classes} + 4)")


def _print_artifact(document: dict[str, Any]) -> None:
    info = document["artifact"]
    print(f"{info['format']} {info['precision']}, record {info['record_sha256'][:12] or 'none'}")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(info["tool_versions"].items()))
    print(f"written by {versions or 'unknown tools'}\n")
    _print_thresholds(document["spec"]["classes"], info["operating_thresholds"])
    print()
    print_table(
        ("output", "scale", "zero point"),
        [(output["name"], output["scale"], output["zero_point"]) for output in info["outputs"]],
    )


def _print_thresholds(classes: list[str], thresholds: list[float]) -> None:
    print_table(("class", "operating threshold"), list(zip(classes, thresholds, strict=True)))


def _print_artifacts(document: dict[str, Any]) -> None:
    print_table(
        ("artifact", "format", "precision", "bytes", "sha256"),
        [
            (row["file"], row["format"], row["precision"], row["bytes"], row["sha256"][:12])
            for row in document["artifacts"]
        ],
    )


def _print_record(document: dict[str, Any]) -> None:
    record = document["record"]
    (low, high), (weight_low, weight_high) = record["activation_scales"], record["weight_scales"]
    print(f"calibration record {record['sha256'][:12]}, from {record['pictures']} pictures")
    print(f"  {record['points']} points, scales {low:.3g} to {high:.3g}")
    print(f"  {record['convolutions']} convolutions, weight scales {weight_low:.3g} to {weight_high:.3g}")
    print(f"  kept in float: {', '.join(record['float_nodes']) or 'none'}")
    if record["learned_rounding"]:
        print(f"  learned rounding: {len(record['learned_rounding'])} convolutions")


def _print_golden(document: dict[str, Any]) -> None:
    print(f"golden: {', '.join(document['golden'])}")


def _print_sensitivity(document: dict[str, Any]) -> None:
    """The most harmful layers, or with --layers all of them in the network's order."""
    values = dict(document["sensitivity"])
    plot = values.pop("plot")
    table = SensitivityTable.from_dict(values)
    rows = table.rows if "layers" in document else table.ranked[:MOST_HARMFUL]
    which = (
        "by layer" if "layers" in document else f"of the {len(rows)} most harmful of {len(table.rows)} layers"
    )
    print(f"harm of each layer's int8 alone, 0 to 2, {which} ({table.recipe}, {table.pictures} pictures)")
    largest = max((row.harm for row in rows), default=0.0)
    header = ("layer", "kind", "parameters", "multiply-adds", "of weights", "of output", "harm", "share", "")
    print_table(header, [
        (row.layer, row.kind, row.parameters, row.multiply_adds, row.weights_harm, row.activation_harm,
         row.harm, f"{table.share(row):5.0%}",
         harm_bar(row.harm, largest) + (" kept in float" if row.is_float else ""))
        for row in rows
    ])  # fmt: skip
    if plot:
        print(f"as a picture: {plot}")


def _print_metrics(document: dict[str, Any]) -> None:
    _print_thresholds(document["spec"]["classes"], document["operating_thresholds"])
    for name, figures in document["metrics"].items():
        classes = figures.get("classes") if isinstance(figures, dict) else None
        if not isinstance(classes, dict) or not all(isinstance(row, dict) for row in classes.values()):
            print(f"\n{name}: {figures}")
            continue
        print(
            f"\n{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items() if key != "classes")
        )
        columns = ("boxes", "AP", "AP50")
        print_table(("class", *columns), [
            (label, *(row.get(column) for column in columns)) for label, row in classes.items()
        ])  # fmt: skip


def _print_layers(document: dict[str, Any]) -> None:
    if document["kind"] == "checkpoint":
        header = ("layer", "kind", "output", "parameters", "multiply-adds")
        print_table(header, [
            (row["name"], row["kind"], "x".join(map(str, row["output_chw"])), row["parameters"],
             row["multiply_adds"])
            for row in document["layers"]
        ])  # fmt: skip
        return
    header = ("point", "scale", "zero point", "smallest weight scale", "largest")
    print_table(header, [
        (row["name"], row["scale"], row["zero_point"], *(row["weight_scales"] or (None, None)))
        for row in document["layers"]
    ])  # fmt: skip


_PRINTERS = {
    "cost": _print_cost,
    "artifact": _print_artifact,
    "artifacts": _print_artifacts,
    "record": _print_record,
    "golden": _print_golden,
    "sensitivity": _print_sensitivity,
    "metrics": _print_metrics,
    "layers": _print_layers,
}
