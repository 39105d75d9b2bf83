"""SuperPoint and MagicPoint as methods to evaluate."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from superpoint_ros.evaluation.methods import Detection, Image


class SuperPointMethod:
    """SuperPoint with any weights file.

    Args:
        weights: known name or path, as `superpoint_ros.weights.load` takes it.
        detection_threshold: least probability of a keypoint. The default is low, so that the number of keypoints is
            decided by the protocol, as in the published evaluations.
        border: width of the image border without keypoints, in pixels.
        subpixel: refine keypoints to fractions of a pixel.
        device, precision: as `SuperPoint` takes them; float32 gives the same numbers on every machine.
    """

    name = "superpoint"

    def __init__(
        self,
        weights: str = "default",
        detection_threshold: float = 0.001,
        border: int = 4,
        subpixel: bool = True,
        device: str = "auto",
        precision: str = "float32",
    ) -> None:
        from superpoint_ros import SuperPoint

        self._superpoint = SuperPoint(
            weights,
            detection_threshold=detection_threshold,
            border=border,
            subpixel=subpixel,
            device=device,
            precision=precision,
        )
        if weights != "default":
            self.name = f"{self.name}:{Path(weights).name}"

    def settings(self) -> dict[str, Any]:
        """Weights by checksum, settings, arithmetic, and the code that turns an image into features."""
        found, used = self._superpoint, self._superpoint.settings
        return {
            "method": type(self).__name__,
            "weights_sha256": found.weights.sha256,
            "detection_threshold": used.detection_threshold,
            "border": used.border,
            "subpixel": used.subpixel,
            "precision": found.runtime.precision,
            "device": found.runtime.device.type,
            "code": _code("network.py", "decoding.py", "superpoint.py", "runtimes/pytorch.py"),
        }

    def detect(self, image: Image, max_keypoints: int, nms_radius: int) -> Detection:
        """See `Method`."""
        self._superpoint.configure(max_keypoints=max_keypoints, nms_radius=nms_radius)
        features = self._superpoint.extract(image)
        return Detection(features.keypoints, features.scores, features.descriptors)


class MagicPointMethod(SuperPointMethod):
    """The detector half alone (paper, section 4): a weights file whose descriptors are of no account."""

    name = "magicpoint"

    def detect(self, image: Image, max_keypoints: int, nms_radius: int) -> Detection:
        """See `Method`."""
        found = super().detect(image, max_keypoints, nms_radius)
        return Detection(found.keypoints, found.scores, None)


def _code(*names: str) -> str:
    """Checksum of modules of this package: a change of theirs makes kept predictions stale."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for name in names:
        digest.update((package / name).read_bytes())
    return digest.hexdigest()[:16]
