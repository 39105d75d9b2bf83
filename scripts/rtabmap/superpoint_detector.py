"""SuperPoint as RTAB-Map's Python detector: set Kp/DetectorStrategy and Vis/FeatureType to 15, PyDetector/Path to this.

RTAB-Map imports this file by its name, calls `init` once and `detect` for every image. docs/consumers.md has the rest.
"""

from superpoint_ros.adapters.rtabmap import PyDetector

_detector = None


def init(cuda):
    """Load the network; `cuda` is RTAB-Map's parameter PyDetector/Cuda."""
    global _detector
    _detector = PyDetector(bool(cuda))


def detect(image):
    """Return keypoints (N, 3) as x, y, score and descriptors (N, D), float32, of an (H, W) uint8 grey image."""
    return _detector.detect(image)
