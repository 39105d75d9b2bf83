"""SuperPoint for robots: keypoints, descriptors and frame-to-frame homographies, with and without ROS 2."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

# The generated messages are in another folder of the same name; without this a source checkout hides them.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"

__all__ = [
    "SuperPoint",
    "ImageError",
    "Features",
    "Matches",
    "Homography",
    "Status",
    "EpipolarGeometry",
    "Scene",
    "match",
    "match_stereo",
    "StereoMatches",
    "estimate_homography",
    "estimate_epipolar",
    "FrontEnd",
    "FrontEndSettings",
    "Frame",
    "FrameResult",
    "PaddedFeatures",
    "plot_features",
    "plot_matches",
    "to_opencv",
    "from_opencv",
    "matches_to_opencv",
    "features_from_message",
    "settings_from_parameters",
    "Detection",
    "__version__",
]

_MODULES = {
    "adapters.opencv": ("from_opencv", "matches_to_opencv", "to_opencv"),
    "adapters.plots": ("plot_features", "plot_matches"),
    "evaluation.methods": ("Detection",),
    "extraction.padded": ("PaddedFeatures",),
    "extraction.checks": ("ImageError",),
    "extraction.superpoint": ("SuperPoint",),
    "features": ("EpipolarGeometry", "Features", "Homography", "Matches", "Scene", "Status"),
    "frontend.frames": ("Frame", "FrameResult"),
    "frontend.frontend": ("FrontEnd",),
    "frontend.settings": ("FrontEndSettings",),
    "node.messages": ("features_from_message",),
    "node.settings": ("settings_from_parameters",),
    "two_view.epipolar": ("estimate_epipolar",),
    "two_view.homography": ("estimate_homography",),
    "two_view.matching": ("match",),
    "two_view.stereo": ("StereoMatches", "match_stereo"),
}

if TYPE_CHECKING:
    from superpoint_ros.adapters.opencv import from_opencv, matches_to_opencv, to_opencv
    from superpoint_ros.adapters.plots import plot_features, plot_matches
    from superpoint_ros.evaluation.methods import Detection
    from superpoint_ros.extraction.checks import ImageError
    from superpoint_ros.extraction.padded import PaddedFeatures
    from superpoint_ros.extraction.superpoint import SuperPoint
    from superpoint_ros.features import EpipolarGeometry, Features, Homography, Matches, Scene, Status
    from superpoint_ros.frontend.frames import Frame, FrameResult
    from superpoint_ros.frontend.frontend import FrontEnd
    from superpoint_ros.frontend.settings import FrontEndSettings
    from superpoint_ros.node.messages import features_from_message
    from superpoint_ros.node.settings import settings_from_parameters
    from superpoint_ros.two_view.epipolar import estimate_epipolar
    from superpoint_ros.two_view.homography import estimate_homography
    from superpoint_ros.two_view.matching import match
    from superpoint_ros.two_view.stereo import StereoMatches, match_stereo


def __getattr__(name: str) -> Any:
    # Importing the package for its messages alone must not cost the import of PyTorch.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
