"""Settings of training runs of a few steps with a small network."""

from __future__ import annotations

from superpoint_ros.training.config import JointConfig, NetworkSizes, ShapesConfig
from superpoint_ros.training.objectives import JointLoss

TINY = NetworkSizes((8, 8, 8, 8, 16, 16, 16, 16), 32, 32, 24)
SMALL = ShapesConfig(
    steps=6, batch=2, size=(48, 64), warmup=2, accelerator="cpu", precision="32-true", network=TINY, log_every=1
)
JOINT = JointConfig(
    steps=3, batch=2, size=(64, 80), longer_side=160, warmup=1, accelerator="cpu", precision="32-true",
    loss=JointLoss(correspondences=64, ramp=1),
)  # fmt: skip
