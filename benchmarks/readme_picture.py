"""Draw the README's picture: what a bundle finds in the two free pictures that came with it.

python benchmarks/readme_picture.py street8-lite0-320 docs/detections.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

import fcos_edge
from fcos_edge.draw import draw_detections
from fcos_edge.image import read_image_bgr

HEIGHT_PX = 480
GAP_PX = 16


def main(bundle: str, out: str) -> None:
    detector = fcos_edge.load(bundle)
    parts = []
    for name in ("astronaut.png", "cat.png"):
        image_bgr = read_image_bgr(Path(bundle, "golden", name))
        detections = detector(image_bgr)
        # Scaled before it is drawn on: lines and letters stay sharp.
        scale = HEIGHT_PX / image_bgr.shape[0]
        scaled = cv2.resize(image_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        boxes = (detections.boxes_xyxy * scale).astype(np.float32)
        shown = fcos_edge.Detections(boxes, detections.scores, detections.labels)
        parts += [draw_detections(np.asarray(scaled, np.uint8), shown, detector.spec.classes)]
        parts += [np.full((HEIGHT_PX, GAP_PX, 3), 255, np.uint8)]
    cv2.imwrite(out, np.concatenate(parts[:-1], axis=1), [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main(*sys.argv[1:])
