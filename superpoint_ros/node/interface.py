"""The node's parameters and topics as one table, which hosts, configuration, launch files and documents follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from superpoint_ros.node.declarations import Parameter, ParameterError, Qos, Topic, Value

NODE_NAME = "superpoint_detector"

SENSOR = Qos(reliable=False, depth=1)
RESULT = Qos(reliable=True, depth=5)

INPUTS = (
    Topic("image", "image", "sensor_msgs/msg/Image", SENSOR, "camera image, where `image_transport` is `raw`"),
    Topic(
        "image_compressed",
        "image/compressed",
        "sensor_msgs/msg/CompressedImage",
        SENSOR,
        "camera image as JPEG or PNG, where `image_transport` is `compressed`",
    ),
    Topic(
        "camera_info",
        "camera_info",
        "sensor_msgs/msg/CameraInfo",
        SENSOR,
        "calibration, optional: makes the keypoint cloud one of viewing rays",
    ),
)

OUTPUTS = (
    Topic(
        "features",
        "~/features",
        "superpoint_ros/msg/Features",
        RESULT,
        "keypoints with scores, track ids and descriptors",
    ),
    Topic(
        "matched_homography",
        "~/matched_homography",
        "superpoint_ros/msg/MatchedHomography",
        RESULT,
        "matches with the frame before and the homography that they agree on",
    ),
    Topic(
        "image_annotated",
        "~/image_annotated",
        "sensor_msgs/msg/Image",
        RESULT,
        "the image with keypoints and matches, drawn only while somebody listens",
    ),
    Topic(
        "keypoints_cloud",
        "~/keypoints_cloud",
        "sensor_msgs/msg/PointCloud2",
        RESULT,
        "keypoints for RViz: viewing rays at unit depth with `camera_info` (NaN beyond what its lens model can "
        "invert), else pixels at z = 0",
    ),
    Topic(
        "diagnostics",
        "/diagnostics",
        "diagnostic_msgs/msg/DiagnosticArray",
        RESULT,
        "counters, rate and the median time of each stage, once a second",
    ),
)

PARAMETERS = (
    Parameter("weights", "default", "name of known weights, or path of a weights file or folder", read_only=True),
    Parameter("device", "auto", "where the network runs: auto, cpu, cuda or cuda:N", read_only=True),
    Parameter(
        "runtime",
        "auto",
        "what executes the network",
        choices=("auto", "openvino", "onnxruntime", "pytorch", "cuda_graph", "cuda_graph_compiled"),
        read_only=True,
    ),
    Parameter(
        "precision",
        "auto",
        "arithmetic of the network; coordinates are float32 always",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        read_only=True,
    ),
    Parameter(
        "max_keypoints", 1000, "most keypoints detected per image; those of tracks that coast come on top", 1, 20000
    ),
    Parameter("nms_radius", 4, "no two keypoints lie this close, in pixels (Chebyshev distance)", 0, 64),
    Parameter("detection_threshold", 0.005, "least detection probability of a keypoint", 0.0, 1.0),
    Parameter("border", 4, "width of the image border without keypoints, in pixels", 0, 256),
    Parameter("subpixel", True, "refine keypoints to fractions of a pixel, on the heat map and then on the image"),
    Parameter("resize", 0, "longer side of the image given to the network, in pixels; 0 leaves it as it is", 0, 8192),
    Parameter(
        "levels",
        1,
        "sizes at which keypoints are found, each 1/sqrt(2) of the one before; more relate views whose scales differ",
        1,
        8,
    ),
    Parameter(
        "spread",
        False,
        "keypoints cover the whole image, not only its most textured part: they"
        " are chosen from twice as many, cell by cell",
    ),
    Parameter(
        "tile_pixels",
        2_100_000,
        "most pixels that the network is given at once (half as many in float32); larger images go through it in "
        "overlapping tiles, with the same features in less memory",
        250_000,
        16_000_000,
    ),
    Parameter("max_pixels", 150_000_000, "most pixels of an image; a larger one is left out", 250_000, 1_000_000_000),
    Parameter(
        "image_transport",
        "raw",
        "subscribe to `image` or to `image/compressed`",
        choices=("raw", "compressed"),
        read_only=True,
    ),
    Parameter(
        "cameras",
        ("",),
        "names of several cameras, each of which has topics of its own: `left/image`, `~/left/features`",
        read_only=True,
    ),
    Parameter("descriptor_type", "float32", "component type of published descriptors", choices=("float32", "float16")),
    Parameter("tracking", True, "give keypoints track ids that persist through matches"),
    Parameter("match.min_similarity", 0.5, "least cosine similarity of a match", -1.0, 1.0),
    Parameter(
        "match.ratio",
        1.0,
        "most ratio of the descriptor distances of a match and of its runner-up; 1 turns the test off",
        0.1,
        1.0,
    ),
    Parameter(
        "match.window",
        0,
        "search matches only within so many pixels, in x and in y, of where the motion so far lets expect them, and "
        "everywhere when that fails; 0 always searches everywhere",
        0,
        8192,
    ),
    Parameter(
        "match.refine", True, "find matched points in the image around their detections, to a few hundredths of a pixel"
    ),
    Parameter(
        "track.coast",
        3,
        "for how many frames a track goes on while the detector misses its keypoint and the image still shows it",
        0,
        100,
    ),
    Parameter(
        "homography.method",
        "magsac",
        "robust estimator",
        choices=("magsac", "accurate", "fast", "ransac", "lmeds"),
    ),
    Parameter("homography.threshold", 3.0, "greatest reprojection error of an inlier, in pixels", 0.1, 100.0),
    Parameter("homography.min_inliers", 12, "fewest inliers of a valid homography", 4, 10000),
    Parameter("homography.align", True, "refine the homography to where the two images agree best around the inliers"),
    Parameter(
        "epipolar.estimate",
        True,
        "estimate the fundamental matrix where the homography does not explain the matches, and say which model does",
    ),
    Parameter(
        "epipolar.threshold",
        1.0,
        "greatest Sampson error of an inlier of the fundamental matrix, in pixels",
        0.1,
        100.0,
    ),
    Parameter(
        "rectified",
        "auto",
        "images are rectified: P of camera_info holds, not K and D; auto: where the topic is called image_rect*",
        choices=("auto", "true", "false"),
        read_only=True,
    ),
    Parameter(
        "image_timeout",
        5.0,
        "longest time without an image that is no error in /diagnostics, in seconds; 0 for any",
        0.0,
        86400.0,
    ),
    Parameter("max_gap", 1.0, "longest time between two frames that are matched, in seconds", 0.001, 3600.0),
)

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}


def defaults() -> dict[str, Value]:
    """Every parameter's default by name."""
    return {parameter.name: parameter.default for parameter in PARAMETERS}


def checked(values: Mapping[str, Any]) -> dict[str, Value]:
    """Return `values` in their parameters' types.

    Raises:
        ParameterError: for an unknown name, a wrong type or a value out of range.
    """
    return {name: parameter(name).check(value) for name, value in values.items()}


def parameter(name: str) -> Parameter:
    """The parameter with this name.

    Raises:
        ParameterError: if there is none.
    """
    if name not in _BY_NAME:
        raise ParameterError(f"parameter '{name}' is unknown, known are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def is_known(name: str) -> bool:
    """Tell whether there is a parameter with this name."""
    return name in _BY_NAME


def with_transport(topic: Topic, image: str) -> str:
    """Name of an image input whose base topic `image` resolves to this: the transport is a suffix of the remapped
    name, as image_transport has it."""
    return image + topic.name.removeprefix("image")


def topic(key: str) -> Topic:
    """The topic with this key, as in `topic("features")`."""
    return next(entry for entry in INPUTS + OUTPUTS if entry.key == key)


def outputs(cameras: Iterable[str]) -> dict[tuple[str, str], Topic]:
    """The output topics of these cameras by key and camera; those of the whole node have an empty camera."""
    named = [(entry, camera, entry.for_camera(camera)) for entry in OUTPUTS for camera in cameras]
    return {(entry.key, "" if own is entry else camera): own for entry, camera, own in named}
