"""SuperPoint for robots: keypoints, descriptors and frame-to-frame homographies, with and without ROS 2."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

# The generated messages live in a folder of the same name elsewhere; without this a source checkout hides them.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"

_EXPORTS = {
    "SuperPoint": "superpoint",
    "ImageError": "superpoint",
    "Features": "features",
    "Matches": "features",
    "Homography": "features",
    "Status": "features",
    "match": "matching",
    "estimate_homography": "homography",
    "FrontEnd": "frontend",
    "FrontEndSettings": "frontend",
    "Frame": "frontend",
    "FrameResult": "frontend",
}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from superpoint_ros.features import Features, Homography, Matches, Status
    from superpoint_ros.frontend import Frame, FrameResult, FrontEnd, FrontEndSettings
    from superpoint_ros.homography import estimate_homography
    from superpoint_ros.matching import match
    from superpoint_ros.superpoint import ImageError, SuperPoint


def __getattr__(name: str) -> Any:
    # Importing the package for its messages alone must not cost the import of PyTorch.
    if name not in _EXPORTS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
