"""The parameters and topics of the odometry node."""

from __future__ import annotations

from dataclasses import replace

from superpoint_ros.node.declarations import Parameter, ParameterTable, Qos, Topic
from superpoint_ros.odometry.values import NOISE

NODE_NAME = "superpoint_odometry"
DETECTOR = "superpoint_detector"
_RESULT = Qos(reliable=True, depth=20)

PARAMETERS = ParameterTable(
    (
        Parameter(
            "stereo",
            False,
            "use the stereo matches of the detector's left camera, so that distances are in metres",
            read_only=True,
        ),
        Parameter(
            "camera",
            "none",
            "name of the (left) camera among the detector's `cameras`; none for a single camera without a name",
            read_only=True,
        ),
        Parameter("odom_frame", "odom", "frame in which poses are published", read_only=True),
        Parameter("base_frame", "base_link", "robot frame whose pose is published", read_only=True),
        Parameter("camera_x", 0.0, "position of the camera in the base frame, forward, in metres", -100.0, 100.0),
        Parameter("camera_y", 0.0, "position of the camera in the base frame, to the left, in metres", -100.0, 100.0),
        Parameter("camera_z", 0.0, "position of the camera in the base frame, up, in metres", -100.0, 100.0),
        Parameter("camera_roll", 0.0, "rotation of the camera about the base's x axis, in degrees", -180.0, 180.0),
        Parameter("camera_pitch", 0.0, "rotation about the y axis, in degrees; positive looks down", -90.0, 90.0),
        Parameter("camera_yaw", 0.0, "rotation about the z axis, in degrees; positive looks left", -180.0, 180.0),
        Parameter("publish_tf", True, "publish the transform from odom_frame to base_frame", read_only=True),
        Parameter(
            "start_depth",
            0.0,
            "median depth of the scene at the start with a single camera, in metres; 0 if unknown: that depth is "
            "then the unit of length",
            0.0,
            10000.0,
        ),
        Parameter(
            "noise", NOISE, "standard deviation added to that of each position (in quadrature), in pixels", 0.01, 10.0
        ),
        Parameter("max_error", 2.0, "maximum reprojection error of an inlier, in pixels", 0.1, 50.0),
        Parameter("min_points", 15, "minimum number of known points for a pose", 6, 1000),
        Parameter("window", 8, "number of keyframes that are estimated jointly", 2, 50),
        Parameter("lost_after", 3.0, "time without a pose after which a new map is started, in seconds", 0.1, 600.0),
        Parameter(
            "disparity_offset",
            0.0,
            "correction of the rig's calibration, added to all disparities, in pixels; `superpoint-ros evaluate "
            "stereo` measures it",
            -20.0,
            20.0,
        ),
    )
)

INPUTS = (
    Topic("features", f"{DETECTOR}/features", "superpoint_ros/msg/Features", _RESULT, "tracks of the detector"),
    Topic(
        "matched_homography",
        f"{DETECTOR}/matched_homography",
        "superpoint_ros/msg/MatchedHomography",
        _RESULT,
        "whether tracks continue, and which model explains the scene",
    ),
    Topic(
        "stereo_matches",
        f"{DETECTOR}/stereo_matches",
        "superpoint_ros/msg/StereoMatches",
        _RESULT,
        "depths, if `stereo` is set",
        shared=True,
    ),
    Topic("camera_info", "camera_info", "sensor_msgs/msg/CameraInfo", Qos(False, 1), "the (left) camera's calibration"),
    Topic(
        "speed",
        "speed",
        "geometry_msgs/msg/TwistStamped",
        _RESULT,
        "optional speed in m/s, which sets the scale of a single camera at its start",
        shared=True,
    ),
)

OUTPUTS = (
    Topic("odometry", "~/odometry", "nav_msgs/msg/Odometry", _RESULT, "pose and velocity of `base_frame`"),
    Topic(
        "path",
        "~/path",
        "nav_msgs/msg/Path",
        Qos(True, 1),
        "poses of the keyframes so far, at most 1000 of them, evenly thinned; at most once a second, and only while "
        "there is a subscriber",
    ),
    Topic("tf", "/tf", "tf2_msgs/msg/TFMessage", Qos(True, 100), "transform from `odom_frame` to `base_frame`"),
    Topic(
        "diagnostics",
        "/diagnostics",
        "diagnostic_msgs/msg/DiagnosticArray",
        Qos(True, 5),
        "initialising, tracking or lost, and why; once a second",
    ),
)


def topic(key: str) -> Topic:
    """Look up a topic by key, as in `topic("odometry")`."""
    return next(entry for entry in INPUTS + OUTPUTS if entry.key == key)


def inputs(camera: str, stereo: bool) -> dict[str, Topic]:
    """List the topics to subscribe to by key, for a camera of the detector."""
    found = {}
    for entry in INPUTS:
        if entry.key == "stereo_matches" and not stereo:
            continue
        found[entry.key] = entry
        if camera and not entry.shared:
            # As the detector names the topics of one of several cameras.
            private = replace(entry, name=entry.name.replace(f"{DETECTOR}/", "~/")).for_camera(camera)
            found[entry.key] = replace(private, name=private.name.replace("~/", f"{DETECTOR}/"))
    return found
