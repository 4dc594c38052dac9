"""Training presets by name."""

from __future__ import annotations

from dataclasses import replace

from fcos_edge.train.config import AssignConfig, NetworkConfig, OptimizerConfig, TrainConfig

# The paper's ranges halved: at 320 pixels with the paper's own numbers almost every box falls to the
# two finest levels.
LITE_RANGES = ((0.0, 32.0), (32.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, float("inf")))

LITE0_320 = TrainConfig(
    network=NetworkConfig(num_classes=8), input_hw=(320, 320), assign=AssignConfig(ranges=LITE_RANGES)
)
# The embedded default: 18 passes are what two CPU cores do in about 100 minutes.
STREET8_LITE0_320 = replace(
    LITE0_320, epochs=18, small_epochs=13, batch_size=8,
    optimizer=OptimizerConfig(
        learning_rate=8e-4, reference_batch=8, backbone_factor=0.4,
        warmup_steps=300, warmup_factor=1 / 300, ema_decay=0.999,
    ),
)  # fmt: skip
SMOKE = replace(LITE0_320, epochs=1, max_images=8, batch_size=4, input_hw=(128, 128))

PRESETS = {"lite0-320": LITE0_320, "street8-lite0-320": STREET8_LITE0_320, "smoke": SMOKE}
STREET8 = ("person", "bicycle", "car", "motorcycle", "bus", "cat", "dog", "horse")
# Where nobody names the classes: those that both sets of the embedded default label fully.
PRESET_CLASSES = {"street8-lite0-320": STREET8}
