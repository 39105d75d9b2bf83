"""Message types of packages that are not among ROS 2's common ones."""

from __future__ import annotations

DEFINITIONS = {
    "foxglove_msgs/msg/CompressedImage": """
        builtin_interfaces/Time timestamp
        string frame_id
        uint8[] data
        string format
    """,
    "foxglove_msgs/msg/CompressedVideo": """
        builtin_interfaces/Time timestamp
        string frame_id
        uint8[] data
        string format
    """,
    "foxglove_msgs/msg/Point2": "float64 x\nfloat64 y",
    "foxglove_msgs/msg/Color": "float64 r\nfloat64 g\nfloat64 b\nfloat64 a",
    "foxglove_msgs/msg/KeyValuePair": "string key\nstring value",
    "foxglove_msgs/msg/CircleAnnotation": """
        builtin_interfaces/Time timestamp
        foxglove_msgs/Point2 position
        float64 diameter
        float64 thickness
        foxglove_msgs/Color fill_color
        foxglove_msgs/Color outline_color
        foxglove_msgs/KeyValuePair[] metadata
    """,
    "foxglove_msgs/msg/PointsAnnotation": """
        uint8 UNKNOWN=0
        uint8 POINTS=1
        uint8 LINE_LOOP=2
        uint8 LINE_STRIP=3
        uint8 LINE_LIST=4
        builtin_interfaces/Time timestamp
        uint8 type
        foxglove_msgs/Point2[] points
        foxglove_msgs/Color outline_color
        foxglove_msgs/Color[] outline_colors
        foxglove_msgs/Color fill_color
        float64 thickness
        foxglove_msgs/KeyValuePair[] metadata
    """,
    "foxglove_msgs/msg/TextAnnotation": """
        builtin_interfaces/Time timestamp
        foxglove_msgs/Point2 position
        string text
        float64 font_size
        foxglove_msgs/Color text_color
        foxglove_msgs/Color background_color
        foxglove_msgs/KeyValuePair[] metadata
    """,
    "foxglove_msgs/msg/ImageAnnotations": """
        builtin_interfaces/Time timestamp
        foxglove_msgs/CircleAnnotation[] circles
        foxglove_msgs/PointsAnnotation[] points
        foxglove_msgs/TextAnnotation[] texts
        foxglove_msgs/KeyValuePair[] metadata
    """,
    "rtabmap_msgs/msg/Point2f": "float32 x\nfloat32 y",
    "rtabmap_msgs/msg/Point3f": "float32 x\nfloat32 y\nfloat32 z",
    "rtabmap_msgs/msg/KeyPoint": """
        rtabmap_msgs/Point2f pt
        float32 size
        float32 angle
        float32 response
        int32 octave
        int32 class_id
    """,
    "rtabmap_msgs/msg/GlobalDescriptor": """
        std_msgs/Header header
        int32 type
        uint8[] info
        uint8[] data
    """,
    "rtabmap_msgs/msg/RGBDImage": """
        std_msgs/Header header
        sensor_msgs/CameraInfo rgb_camera_info
        sensor_msgs/CameraInfo depth_camera_info
        sensor_msgs/Image rgb
        sensor_msgs/Image depth
        sensor_msgs/CompressedImage rgb_compressed
        sensor_msgs/CompressedImage depth_compressed
        rtabmap_msgs/KeyPoint[] key_points
        rtabmap_msgs/Point3f[] points
        uint8[] descriptors
        rtabmap_msgs/GlobalDescriptor global_descriptor
    """,
}
"""Definitions by type name. Annotations are those of foxglove_msgs from release 3.2.5 on, which added `metadata`."""
