"""The node's topics: the part of `interface` that says what is subscribed to and published."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from superpoint_ros.node.declarations import Qos, Topic

VIDEO_TYPE = "foxglove_msgs/msg/CompressedVideo"
SENSOR = Qos(reliable=False, depth=1)
VIDEO = Qos(reliable=False, depth=10)  # a frame that is lost costs all up to the next keyframe
RESULT = Qos(reliable=True, depth=5)

INPUTS = (
    Topic("image", "image", "sensor_msgs/msg/Image", SENSOR, "camera image, if `image_transport` is `raw`"),
    Topic(
        "image_compressed",
        "image/compressed",
        "sensor_msgs/msg/CompressedImage",
        SENSOR,
        "camera image as JPEG or PNG, if `image_transport` is `compressed`",
    ),
    Topic(
        "image_foxglove",
        "image/foxglove",
        VIDEO_TYPE,
        VIDEO,
        "video in H.264 or H.265, named as by image_transport's Foxglove plugin, if `image_transport` is `foxglove`",
    ),
    Topic(
        "foxglove_video",
        "image",
        VIDEO_TYPE,
        VIDEO,
        "video in H.264 or H.265 under any name, if `image_transport` is `foxglove_video`",
    ),
    Topic(
        "foxglove_image",
        "image",
        "foxglove_msgs/msg/CompressedImage",
        SENSOR,
        "camera image as JPEG, PNG or WebP under any name, if `image_transport` is `foxglove_image`",
    ),
    Topic(
        "camera_info",
        "camera_info",
        "sensor_msgs/msg/CameraInfo",
        SENSOR,
        "optional calibration, which adds normalized points and turns the keypoint cloud into viewing rays",
    ),
    Topic("mask", "mask", "sensor_msgs/msg/Image", SENSOR, "optional mono8 mask of moving objects; zeros are masked"),
)

TRANSPORTS = {
    "raw": "image",
    "compressed": "image_compressed",
    "foxglove": "image_foxglove",
    "foxglove_video": "foxglove_video",
    "foxglove_image": "foxglove_image",
}
"""Key of the image topic by the value of `image_transport`."""

SUFFIXES = tuple(dict.fromkeys(each.name.removeprefix("image") for each in INPUTS if each.key in TRANSPORTS.values()))
"""What the transports append to the name of an image topic, among them nothing."""

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
        "matches with the previous frame and the homography that fits them",
    ),
    Topic(
        "image_annotated",
        "~/image_annotated",
        "sensor_msgs/msg/Image",
        RESULT,
        "the image with keypoints and matches, drawn only while there is a subscriber",
    ),
    Topic(
        "keypoints_cloud",
        "~/keypoints_cloud",
        "sensor_msgs/msg/PointCloud2",
        RESULT,
        "keypoints for RViz: viewing rays at unit depth with `camera_info` (NaN beyond what its lens model can "
        "invert), else pixels at z = 0; with `stereo` the left camera's at true depth (NaN without a match)",
    ),
    Topic(
        "stereo_matches",
        "~/stereo_matches",
        "superpoint_ros/msg/StereoMatches",
        RESULT,
        "matches between the images of a stereo pair with disparities, depths and 3D points, if `stereo` is set",
        shared=True,
    ),
    Topic(
        "image_annotations",
        "~/image_annotations",
        "foxglove_msgs/msg/ImageAnnotations",
        RESULT,
        "keypoints and matches that Foxglove draws over the image, with `foxglove` among the `adapters`; far smaller "
        "than an annotated image",
        adapter="foxglove",
    ),
    Topic(
        "vins_restart",
        "~/vins_restart",
        "std_msgs/msg/Bool",
        RESULT,
        "true if the tracks end, after a gap or if the image size changes, with `vins` among the `adapters`",
        adapter="vins",
    ),
    Topic(
        "vins_features",
        "~/vins_features",
        "sensor_msgs/msg/PointCloud",
        RESULT,
        "tracks that replace those of VINS-Fusion's and SuperVINS's own tracker, with `vins` among the `adapters` "
        "and `camera_info`",
        adapter="vins",
    ),
    Topic(
        "vins_mono_features",
        "~/vins_mono_features",
        "sensor_msgs/msg/PointCloud",
        RESULT,
        "the same for VINS-Mono, whose channels differ",
        adapter="vins",
    ),
    Topic(
        "rgbd_image",
        "~/rgbd_image",
        "rtabmap_msgs/msg/RGBDImage",
        RESULT,
        "a rectified image with its features for RTAB-Map, with `rtabmap` among the `adapters` and `camera_info`; "
        "with `stereo` the left camera's, with the right image and the 3D points",
        adapter="rtabmap",
    ),
    Topic(
        "diagnostics",
        "/diagnostics",
        "diagnostic_msgs/msg/DiagnosticArray",
        RESULT,
        "counters, rate and the median time of each stage, once a second",
        shared=True,
    ),
)


def with_transport(topic: Topic, image: str) -> str:
    """Return the name of an image input from the resolved name of `image`.

    The transport is a suffix of the remapped name, as in image_transport.
    """
    return image + topic.name.removeprefix("image")


def without_transport(image: str) -> str:
    """Return the name of an image topic without the suffix of its transport, if it has one."""
    return next((image.removesuffix(suffix) for suffix in SUFFIXES if suffix and image.endswith(suffix)), image)


def topic(key: str) -> Topic:
    """Look up a topic by key, as in `topic("features")`."""
    return next(entry for entry in INPUTS + OUTPUTS if entry.key == key)


def outputs(
    cameras: Iterable[str], stereo: bool = False, adapters: Collection[str] = ()
) -> dict[tuple[str, str], Topic]:
    """List the output topics by key and camera; those shared by all cameras have an empty camera name.

    Args:
        cameras: their names.
        stereo: whether there is a stereo pair.
        adapters: names of those that are on.
    """
    entries = [entry for entry in OUTPUTS if stereo or entry.key != "stereo_matches"]
    entries = [entry for entry in entries if not entry.adapter or entry.adapter in adapters]
    named = [(entry, camera, entry.for_camera(camera)) for entry in entries for camera in cameras]
    return {(entry.key, "" if own is entry else camera): own for entry, camera, own in named}
