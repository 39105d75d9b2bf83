"""The live demo: a camera, the detector, the odometry and a monitor as processes that talk over DDS."""
