"""The names of the files in a run's folder, for those that read it without torch, too."""

from __future__ import annotations

RUN_FILE = "run.json"
RECORD_FILE = "record.json"  # of quantization-aware training: what it begins with
STATE_FILE = "state.pt"
METRICS_FILE = "metrics.jsonl"
BOARD_FOLDER = "tensorboard"
PAGE_FILE = "training.html"  # where somebody puts `report --html` beside the others
# Of run.json, beside what describes the run: the line that began it.
COMMAND = "command"
