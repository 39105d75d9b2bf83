"""The live demo: a camera, the detector and a monitor as three processes that talk over DDS."""
