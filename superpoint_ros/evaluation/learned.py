"""SuperPoint and MagicPoint as evaluation methods."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from superpoint_ros.evaluation.classical import suppress_points
from superpoint_ros.evaluation.methods import Detection, Image


class SuperPointMethod:
    """SuperPoint with any weights file.

    Args:
        weights: known name or path, as for `superpoint_ros.extraction.weights.load`, or a checkpoint of `train`.
        detection_threshold: minimum probability of a keypoint. The default is low, so that the protocol determines the
            number of keypoints, as in the published evaluations.
        border: width of the image border without keypoints, in pixels.
        subpixel: refine keypoints to fractions of a pixel.
        levels, scale_factor, balance_levels: pyramid levels, as in `SuperPoint`. The protocol's suppression acts across
            them.
        nms_radius: minimum radius of suppression within a level.
        descriptor_size: number of components of a descriptor, as in `SuperPoint`.
        device, runtime, precision: as in `SuperPoint`. PyTorch in float32 is reproducible on every machine, up to
            rounding.
    """

    name = "superpoint"

    def __init__(
        self,
        weights: str = "default",
        detection_threshold: float = 0.001,
        border: int = 4,
        subpixel: bool = True,
        levels: int = 1,
        scale_factor: float = 1.414,
        balance_levels: bool = False,
        nms_radius: int = 0,
        descriptor_size: int = 0,
        device: str = "auto",
        runtime: str = "pytorch",
        precision: str = "float32",
    ) -> None:
        from superpoint_ros import SuperPoint

        with tempfile.TemporaryDirectory() as scratch:
            self._superpoint = SuperPoint(
                _without_training_state(weights, Path(scratch)),
                detection_threshold=detection_threshold,
                border=border,
                subpixel=subpixel,
                levels=levels,
                scale_factor=scale_factor,
                balance_levels=balance_levels,
                nms_radius=nms_radius,
                descriptor_size=descriptor_size,
                device=device,
                runtime=runtime,
                precision=precision,
            )
        self._nms_radius = nms_radius
        if weights != "default":
            self.name = f"{self.name}:{Path(weights).name}"

    def settings(self) -> dict[str, Any]:
        """Return the checksum of the weights, the settings, the arithmetic, and the checksum of the extraction code."""
        found, used = self._superpoint, self._superpoint.settings
        return {
            "method": type(self).__name__,
            "weights_sha256": found.weights.sha256,
            "detection_threshold": used.detection_threshold,
            "border": used.border,
            "subpixel": used.subpixel,
            "levels": used.levels,
            "scale_factor": used.scale_factor,
            "balance_levels": used.balance_levels,
            "descriptor_size": found.descriptor_size,
            "nms_radius": self._nms_radius,
            "runtime": found.runtime.name,
            "precision": found.runtime.precision,
            "device": found.runtime.device.type,
            "code": _code(
                "extraction/network.py",
                "extraction/decoding*.py",
                "extraction/corners.py",
                "extraction/pyramid.py",
                "extraction/results.py",
                "extraction/shortening.py",
                "extraction/superpoint.py",
                "extraction/runtimes/*.py",
                "io/images.py",
            ),
        }

    def detect(self, image: Image, max_keypoints: int, nms_radius: int) -> Detection:
        """Detect as `Method` specifies."""
        levels = self._superpoint.settings.levels
        within = max(nms_radius, self._nms_radius)
        # Suppression across levels leaves fewer, so start with more; balanced levels must stay so.
        more = 1 if self._superpoint.settings.balance_levels else levels
        self._superpoint.configure(max_keypoints=max_keypoints * more, nms_radius=within)
        features = self._superpoint.extract(image)
        found = Detection(features.keypoints, features.scores, features.descriptors)
        if levels == 1:
            return found
        return found.select(suppress_points(found.keypoints, found.scores, nms_radius, max_keypoints))


class MagicPointMethod(SuperPointMethod):
    """The detector alone (paper, section 4), from a weights file or a checkpoint of `train shapes`.

    There are no default weights: those of SuperPoint would only repeat SuperPoint's keypoints.
    """

    name = "magicpoint"

    def __init__(self, weights: str = "", **options: Any) -> None:
        if not weights:
            raise ValueError("method 'magicpoint' needs weights, give a file: magicpoint:FILE")
        super().__init__(weights, **options)

    def detect(self, image: Image, max_keypoints: int, nms_radius: int) -> Detection:
        """Detect as `Method` specifies."""
        found = super().detect(image, max_keypoints, nms_radius)
        return Detection(found.keypoints, found.scores, None)


def _without_training_state(weights: str, scratch: Path) -> str | Path:
    """Return the weights, or, for a training checkpoint, its network written to a file in `scratch`."""
    import torch
    from safetensors.torch import save_file

    from superpoint_ros.extraction.weights import BY_ENERGY, ORDER

    path = Path(weights).expanduser()
    if path.suffix in ("", ".safetensors") or not path.is_file():
        return weights
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        parts = {name.removeprefix("network."): part for name, part in state["model"].items()}
        ordered = state.get("extras", {}).get("architecture", {}).get("ordered", False)
    except Exception:
        return weights  # `superpoint_ros.extraction.weights` reports what is wrong with it
    target = scratch / f"{path.stem}.safetensors"
    notes = {ORDER: BY_ENERGY} if ordered else None
    save_file({name.replace(".conv.", "."): part.contiguous() for name, part in parts.items()}, target, notes)
    return target


def _code(*patterns: str) -> str:
    """Checksum of modules of this package: a change of theirs makes kept predictions stale."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in (path for pattern in patterns for path in sorted(package.glob(pattern))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
