"""Count the people who cross a line in a video, with supervision's line and a tracker of its makers.

pip install "fcos-edge[onnx,supervision]" rich && pip install --no-deps trackers
python count_line.py street8-lite0-320 street.mp4

The line runs down the middle of the picture, and in is to the right. --no-deps: trackers asks for
opencv-python, which would overwrite the opencv-python-headless that is there and serves it as well.
"""

import sys
from pathlib import Path

import supervision as sv
from trackers import ByteTrackTracker

import fcos_edge
from fcos_edge.video import VideoReader

bundle, path = sys.argv[1:]
detector = fcos_edge.load(bundle)
person = detector.spec.classes.index("person")
video = VideoReader(Path(path))
# Its own 0.7 and 0.6 are for detectors that are surer of themselves.
tracker = ByteTrackTracker(frame_rate=video.fps, track_activation_threshold=0.4, high_conf_det_threshold=0.4)
line = None
for image_bgr in video:
    if line is None:
        height, width = image_bgr.shape[:2]
        ends = sv.Point(width / 2, 0), sv.Point(width / 2, height)
        line = sv.LineZone(*ends, triggering_anchors=[sv.Position.CENTER])
    found = detector(image_bgr).to_supervision(detector.spec.classes)
    people = tracker.update(found[found.class_id == person])
    line.trigger(people[people.tracker_id >= 0])
if line is not None:
    print(f"in {line.in_count}, out {line.out_count}")
