"""`fcos-edge detect`: run a model over a picture, a folder of pictures, a video or a camera."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcos_edge.arguments import add_model_options, fraction, positive_int
from fcos_edge.console import note, track
from fcos_edge.errors import DataError, ImageError, UsageError
from fcos_edge.writing import check_new_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fcos_edge.detections import Detections
    from fcos_edge.detector import Detector
    from fcos_edge.results import ResultFolder
    from fcos_edge.runtime import UInt8Array
    from fcos_edge.sources import Pictures, Video

SUMMARY = "find things in a picture, a folder of pictures, a video or a camera's view"
DEFAULT_OUT = "detections"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="picture, folder of pictures, video, or a camera's number"
    )
    parser.add_argument(
        "--model", metavar="M", type=Path,
        help="bundle, one .onnx, .xml or .tflite file, or a checkpoint (default: ./street8-lite0-320,"
        " else the embedded detector in PyTorch)",
    )  # fmt: skip
    add_model_options(parser)
    parser.add_argument(
        "--threshold", type=fraction, metavar="T",
        help="smallest score, 0 to 1, for all classes (default: the model's own, per class)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help=f"folder for drawn pictures or video and detections.jsonl (default: {DEFAULT_OUT};"
        " none with --json)",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=positive_int, metavar="N", help="end a video or camera after N frames"
    )
    parser.add_argument(
        "--coco", metavar="FILE", type=Path,
        help="also write all detections as COCO result JSON; image_id is the number that a picture's name is,"
        " else its place, from 1; category_id is the class's place, from 1",
    )  # fmt: skip
    parser.epilog = (
        "With --json there is one JSON object per line on stdout, one line per picture or frame."
        " A camera runs until Ctrl-C or --frames; its video is kept."
    )


def run(args: argparse.Namespace) -> int:
    # Cheap mistakes first: a model takes seconds to load.
    from fcos_edge.opening import open_model
    from fcos_edge.results import ResultFolder
    from fcos_edge.sources import Pictures, find_source

    source = find_source(args.source)
    out = args.out or (None if args.json else Path(DEFAULT_OUT))
    pictures: tuple[Path, ...] = ()
    if isinstance(source, Pictures):
        files = pictures = source.paths
    else:
        files = (source.source,) if isinstance(source.source, Path) else ()
    if args.frames and isinstance(source, Pictures):
        raise UsageError("--frames is for videos and cameras; leave it out for pictures")
    if args.coco is not None:
        check_new_file(args.coco, "--coco")
    results = None if out is None else ResultFolder(out, files)
    with open_model(args.model, args) as detector:
        coco = None if args.coco is None else _Coco(args.coco, pictures, detector)
        report = _Report(detector, results, args.json, coco)
        try:
            if isinstance(source, Pictures):
                return _detect_in_pictures(report, source, args.threshold)
            return _detect_in_video(report, source, args.threshold, args.frames)
        finally:
            if results is not None:
                results.discard()


class _Report:
    """Where detections go: into the folder, if there is one, with --json to stdout, with --coco to a file."""

    def __init__(
        self, detector: Detector, results: ResultFolder | None, is_json: bool, coco: _Coco | None
    ) -> None:
        self.detector = detector
        self.results = results
        self.is_json = is_json
        self.coco = coco

    def detect(self, image_bgr: UInt8Array, threshold: float | None) -> Detections:
        return self.detector(image_bgr, threshold)

    def drawn(self, image_bgr: UInt8Array, detections: Detections) -> UInt8Array:
        from fcos_edge.draw import draw_detections

        return draw_detections(image_bgr, detections, self.detector.spec.classes)

    def write_line(
        self, source: str, image_bgr: UInt8Array, detections: Detections, index: int, *, is_frame: bool
    ) -> None:
        """index: which picture of the folder, or frame of the video, it is."""
        record: dict[str, Any] = {"source": source}
        if is_frame:
            record["frame"] = index
        if self.coco is not None:
            record["image_id"] = self.coco.add(detections, index)
        record["size_hw"] = list(image_bgr.shape[:2])
        record["detections"] = detections.to_records(self.detector.spec.classes)
        if self.results is not None:
            self.results.write_line(record)
        if self.is_json:
            print(json.dumps(record, allow_nan=False), flush=True)  # whoever reads a camera waits for it

    def finish(self) -> None:
        """All sources are done."""
        if self.coco is not None:
            self.coco.write()

    def count(self, detections: Detections) -> str:
        """`2 person, 1 dog`"""
        counts = Counter(self.detector.spec.classes[label] for label in detections.labels.tolist())
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"


class _Coco:
    """Detections on their way to a COCO result file, which is written when all are there."""

    def __init__(self, path: Path, files: Sequence[Path], detector: Detector) -> None:
        from fcos_edge.coco_results import image_ids

        self.path = path
        self._ids = image_ids(files)
        self._category_ids = range(1, 1 + len(detector.spec.classes))
        self._entries: list[dict[str, Any]] = []

    def add(self, detections: Detections, index: int) -> int:
        """Returns the picture's id."""
        image_id = index + 1 if self._ids is None else self._ids[index]
        self._entries += detections.to_coco(image_id, self._category_ids)
        return image_id

    def write(self) -> None:
        from fcos_edge.coco_results import write_results

        write_results(self.path, self._entries, "--coco")
        ids = "the place among the pictures or frames, from 1" if self._ids is None else "the file's name"
        note(
            f"wrote {self.path}: {len(self._entries)} detections; image_id is {ids},"
            " category_id the class's place among the model's, from 1"
        )


def _detect_in_pictures(report: _Report, source: Pictures, threshold: float | None) -> int:
    from fcos_edge.image import read_image_bgr

    num_broken = 0
    try:
        for index, path in enumerate(track(source.paths, "pictures") if source.folder else source.paths):
            try:
                image_bgr = read_image_bgr(path)
            except ImageError as error:
                if source.folder is None:
                    raise
                # One broken file must not cost the results of a thousand good ones.
                note(f"fcos-edge: {error}")
                num_broken += 1
                continue
            detections = report.detect(image_bgr, threshold)
            where = ""
            if report.results is not None:
                drawn = report.drawn(image_bgr, detections)
                where = f" -> {report.results.write_picture(path.name, drawn)}"
            report.write_line(str(path), image_bgr, detections, index, is_frame=False)
            if not report.is_json:
                print(f"{path}: {report.count(detections)}{where}")
    finally:
        # Each picture is a result of its own: those that are done stay, whatever ended the loop.
        if report.results is not None:
            report.results.finish()
    report.finish()
    if num_broken:
        raise DataError(f"{num_broken} of {len(source.paths)} pictures cannot be read; the others are done")
    return 0


def _detect_in_video(report: _Report, source: Video, threshold: float | None, most_frames: int | None) -> int:
    from fcos_edge.video import VideoReader, VideoWriter, video_name

    reader = VideoReader(source.source)
    writer = None
    found = 0
    try:
        if report.results is not None:
            writer = VideoWriter(report.results.make() / video_name(source.name), reader.fps)
        total = min(filter(None, (reader.num_frames, most_frames)), default=None)
        try:
            for image_bgr in track(reader, "frames", total):
                detections = report.detect(image_bgr, threshold)
                found += len(detections)
                if writer is not None:
                    writer.write(report.drawn(image_bgr, detections))
                report.write_line(
                    str(source.source), image_bgr, detections, reader.num_read - 1, is_frame=True
                )
                if reader.num_read == most_frames:
                    break
        except KeyboardInterrupt:
            # The only way to end a camera; a file that was interrupted is not done.
            if not reader.is_camera:
                raise
        if writer is not None and report.results is not None:
            writer.finish()
            report.results.finish()
        report.finish()
        if not report.is_json:
            where = "" if writer is None else f" -> {writer.path}"
            print(f"{source.name}: {reader.num_read} frames, {found} detections{where}")
    finally:
        if writer is not None:
            writer.discard()
        reader.close()
    if reader.num_read != most_frames and reader.is_cut_short:
        raise DataError(
            f"{source.source}: ended after {reader.num_read} of {reader.num_frames} frames;"
            " the file is damaged or cut short, what could be read is done"
        )
    return 0
