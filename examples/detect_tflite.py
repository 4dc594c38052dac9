"""Find things in a picture with TFLite alone: no PyTorch, no data set.

pip install "fcos-edge[tflite]"
python detect_tflite.py street8-lite0-320 street.jpg
"""

import sys

import fcos_edge
from fcos_edge.image import read_image_bgr

bundle, picture = sys.argv[1:]
detector = fcos_edge.load(bundle, runtime="tflite")
detections = detector(read_image_bgr(picture))
for box_xyxy, score, label in zip(detections.boxes_xyxy, detections.scores, detections.labels, strict=True):
    print(f"{detector.spec.classes[label]} {score:.2f}", box_xyxy.round().tolist())
