"""The node's parameters and topics: one table, followed by hosts, configuration, launch files and documents."""

from __future__ import annotations

from superpoint_ros.node.declarations import Parameter, ParameterError, ParameterTable, Qos, Topic, Value
from superpoint_ros.node.topics import INPUTS, OUTPUTS, TRANSPORTS, outputs, topic, with_transport

__all__ = ["INPUTS", "NODE_NAME", "OUTPUTS", "PARAMETERS", "Parameter", "ParameterError", "ParameterTable", "Qos",
           "TABLE", "Topic", "Value",
           "checked", "defaults", "is_known", "outputs", "parameter", "topic", "with_transport"]  # fmt: skip

NODE_NAME = "superpoint_detector"

PARAMETERS = (
    Parameter("weights", "default", "name of known weights, or path of a weights file or folder", read_only=True),
    Parameter(
        "descriptor_size",
        0,
        "number of components of a descriptor; 128 or 64 of 256 match nearly as well, in smaller messages; 0 for all",
        0,
        4096,
        read_only=True,
    ),
    Parameter("device", "auto", "where the network runs: auto, cpu, cuda or cuda:N", read_only=True),
    Parameter(
        "runtime",
        "auto",
        "inference runtime of the network",
        choices=("auto", "openvino", "onnxruntime", "pytorch", "cuda_graph", "cuda_graph_compiled"),
        read_only=True,
    ),
    Parameter(
        "precision",
        "auto",
        "arithmetic of the network; coordinates are always float32",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        read_only=True,
    ),
    Parameter(
        "max_keypoints", 1000, "maximum number of keypoints detected per image; coasting tracks add to it", 1, 20000
    ),
    Parameter("nms_radius", 4, "radius of non-maximum suppression, in pixels (Chebyshev distance)", 0, 64),
    Parameter("detection_threshold", 0.005, "minimum detection probability of a keypoint", 0.0, 1.0),
    Parameter("border", 4, "width of the image border without keypoints, in pixels", 0, 256),
    Parameter("subpixel", True, "refine keypoints to fractions of a pixel, on the heat map and then on the image"),
    Parameter("resize", 0, "longer side of the network's input, in pixels; 0 keeps the original size", 0, 8192),
    Parameter(
        "levels",
        1,
        "number of scales at which keypoints are detected; more help to match views of different scales",
        1,
        8,
    ),
    Parameter(
        "scale_factor",
        1.414,
        "ratio of the sides of a level to those of the next; a larger one covers the same scales with fewer levels, "
        "which are less precise",
        1.05,
        4.0,
    ),
    Parameter(
        "balance_levels",
        False,
        "choose as many keypoints of each level, instead of the best of all: more matches between views of very "
        "different scales, fewer between those of the same",
    ),
    Parameter(
        "spread",
        False,
        "distribute keypoints over the whole image, not only its most textured part, by selecting from twice as many "
        "in a grid",
    ),
    Parameter(
        "tile_pixels",
        2_100_000,
        "maximum number of pixels processed at once (half as many in float32); larger images are processed in "
        "overlapping tiles, which gives the same features in less memory",
        250_000,
        16_000_000,
    ),
    Parameter(
        "max_pixels",
        150_000_000,
        "maximum number of pixels of an image; larger ones are skipped",
        250_000,
        1_000_000_000,
    ),
    Parameter(
        "mask",
        "none",
        "image file whose zero pixels are masked: no keypoints and no tracks there; {camera} in its name is replaced "
        "by the camera's; none for no file",
        read_only=True,
    ),
    Parameter("mask_top", 0, "height of the masked margin at the top, in pixels", 0, 8192),
    Parameter("mask_bottom", 0, "height of the masked margin at the bottom, in pixels", 0, 8192),
    Parameter("mask_left", 0, "width of the masked margin on the left, in pixels", 0, 8192),
    Parameter("mask_right", 0, "width of the masked margin on the right, in pixels", 0, 8192),
    Parameter(
        "mask_max_age",
        0.5,
        "maximum age of the latest message on `mask`, which applies to images without a mask of the same stamp, in "
        "seconds",
        0.0,
        60.0,
    ),
    Parameter(
        "intensity",
        "linear",
        "how 16-bit and float images are converted to 8 bits: linear maps the whole range, auto stretches the levels "
        "in use, clahe also equalises them locally",
        choices=("linear", "auto", "clahe"),
        read_only=True,
    ),
    Parameter(
        "image_transport",
        "raw",
        "transport of the images: raw, compressed and foxglove as in image_transport, on `image`, `image/compressed` "
        "and `image/foxglove`; foxglove_video and foxglove_image for Foxglove's messages on `image`",
        choices=tuple(TRANSPORTS),
        read_only=True,
    ),
    Parameter(
        "cameras",
        ("",),
        "names of several cameras, each with its own topics: `left/image`, `~/left/features`",
        read_only=True,
    ),
    Parameter(
        "stereo",
        False,
        "match the images of two calibrated `cameras`, left first, and publish the depth of the matches",
        read_only=True,
    ),
    Parameter(
        "stereo_slop",
        0.0,
        "maximum difference between the stamps of a stereo pair, in seconds; 0 for equal stamps",
        0.0,
        1.0,
        read_only=True,
    ),
    Parameter("stereo_min_depth", 0.5, "minimum depth of a stereo match, in metres", 0.01, 1000.0),
    Parameter(
        "stereo_row_tolerance",
        2.0,
        "maximum difference between the rows of a stereo match after rectification, in pixels",
        0.1,
        100.0,
    ),
    Parameter(
        "adapters",
        ("",),
        "additional outputs in the formats of other systems: foxglove for `~/image_annotations`, vins for "
        "`~/vins_features`, `~/vins_mono_features` and `~/vins_restart`, rtabmap for `~/rgbd_image`",
        choices=("foxglove", "vins", "rtabmap"),
        read_only=True,
    ),
    Parameter("descriptor_type", "float32", "component type of published descriptors", choices=("float32", "float16")),
    Parameter("tracking", True, "give keypoints track ids that persist through matches"),
    Parameter("match.min_similarity", 0.5, "minimum cosine similarity of a match", -1.0, 1.0),
    Parameter(
        "match.ratio",
        1.0,
        "maximum ratio of the descriptor distances of a match and its runner-up; 1 disables the test",
        0.1,
        1.0,
    ),
    Parameter(
        "match.rotation",
        "upright",
        "rotation between matched images: upright, or any for weights with steerable descriptors, which are compared "
        "at eight rotations",
        choices=("upright", "any"),
    ),
    Parameter(
        "match.window",
        0,
        "search for matches only within this distance in x and y, in pixels, of their predicted position, and in the "
        "whole image if that fails; 0 always searches the whole image",
        0,
        8192,
    ),
    Parameter("match.refine", True, "refine matched points on the images, to a few hundredths of a pixel"),
    Parameter(
        "track.coast",
        3,
        "maximum number of frames for which a track continues while the detector misses its keypoint but the image "
        "still shows it",
        0,
        100,
    ),
    Parameter(
        "homography.method",
        "magsac",
        "robust estimator",
        choices=("magsac", "accurate", "fast", "ransac", "lmeds"),
    ),
    Parameter("homography.threshold", 3.0, "maximum reprojection error of an inlier, in pixels", 0.1, 100.0),
    Parameter("homography.min_inliers", 12, "minimum number of inliers of a valid homography", 4, 10000),
    Parameter("homography.align", True, "refine the homography by aligning the two images around the inliers"),
    Parameter(
        "epipolar.estimate",
        True,
        "estimate the fundamental matrix if the homography does not explain the matches, and report which model does",
    ),
    Parameter(
        "epipolar.threshold",
        1.0,
        "maximum Sampson error of an inlier of the fundamental matrix, in pixels",
        0.1,
        100.0,
    ),
    Parameter(
        "rectified",
        "auto",
        "whether the images are rectified: P of camera_info then applies, not K and D; auto: if the topic is named "
        "image_rect*",
        choices=("auto", "true", "false"),
        read_only=True,
    ),
    Parameter(
        "undistort",
        "none",
        "points: publish keypoints, homography and fundamental matrix in pixels of the rectified camera (P); for raw "
        "images of a calibrated camera",
        choices=("none", "points"),
        read_only=True,
    ),
    Parameter(
        "image_timeout",
        5.0,
        "time without an image after which /diagnostics reports an error, in seconds; 0 for never",
        0.0,
        86400.0,
    ),
    Parameter("max_gap", 1.0, "maximum time between two matched frames, in seconds", 0.001, 3600.0),
)

TABLE = ParameterTable(PARAMETERS)
defaults = TABLE.defaults
checked = TABLE.checked
parameter = TABLE.__getitem__
is_known = TABLE.__contains__
