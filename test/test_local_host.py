"""The detector on images in this process."""

from __future__ import annotations

import numpy as np
import pytest

from superpoint_ros.hosts.local import LocalDetector


@pytest.mark.parametrize("values", [{}, {"cameras": ("left", "right")}, {"cameras": ("a", "b"), "stereo": True}])
def test_a_single_camera_has_features_whatever_cameras_the_parameters_name(tiny_weights, grey, values):
    with LocalDetector({"weights": str(tiny_weights), "device": "cpu", **values}) as detector:
        moment = detector.process(1, np.ascontiguousarray(grey[:96, :128]))
    assert moment is not None and len(moment.features.scores) and moment.stereo is None
