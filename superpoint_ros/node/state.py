"""What the detector knows of a camera."""

from __future__ import annotations

from superpoint_ros.frontend.frames import Pinhole
from superpoint_ros.node.adapters import Conversions
from superpoint_ros.node.camera import Camera
from superpoint_ros.node.diagnostics import CameraHealth
from superpoint_ros.node.intensity import Intensity
from superpoint_ros.node.masks import CameraMasks
from superpoint_ros.node.video import VideoStream


class CameraState:
    """The calibration, masks and health of a camera, and what its adapters remember."""

    def __init__(self, health: CameraHealth, masks: CameraMasks, intensity: Intensity, video: VideoStream) -> None:
        self.calibration: Camera | None = None
        self.pinhole: Pinhole | None = None
        self.health = health
        self.masks = masks
        self.intensity = intensity
        self.video = video
        self.conversions = Conversions()
