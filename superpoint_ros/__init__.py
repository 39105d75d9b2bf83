"""SuperPoint for robots: keypoints, descriptors and frame-to-frame homographies, with and without ROS 2."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

# The generated messages live in a folder of the same name elsewhere; without this a source checkout hides them.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"

__all__ = [
    "SuperPoint",
    "ImageError",
    "Features",
    "Matches",
    "Homography",
    "Status",
    "match",
    "estimate_homography",
    "FrontEnd",
    "FrontEndSettings",
    "Frame",
    "FrameResult",
    "PaddedFeatures",
    "plot_features",
    "plot_matches",
    "__version__",
]

_MODULES = {
    "features": ("Features", "Homography", "Matches", "Status"),
    "frames": ("Frame", "FrameResult"),
    "frontend": ("FrontEnd",),
    "homography": ("estimate_homography",),
    "matching": ("match",),
    "padded": ("PaddedFeatures",),
    "plots": ("plot_features", "plot_matches"),
    "settings": ("FrontEndSettings",),
    "superpoint": ("ImageError", "SuperPoint"),
}

if TYPE_CHECKING:
    from superpoint_ros.features import Features, Homography, Matches, Status
    from superpoint_ros.frames import Frame, FrameResult
    from superpoint_ros.frontend import FrontEnd
    from superpoint_ros.homography import estimate_homography
    from superpoint_ros.matching import match
    from superpoint_ros.padded import PaddedFeatures
    from superpoint_ros.plots import plot_features, plot_matches
    from superpoint_ros.settings import FrontEndSettings
    from superpoint_ros.superpoint import ImageError, SuperPoint


def __getattr__(name: str) -> Any:
    # Importing the package for its messages alone must not cost the import of PyTorch.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
