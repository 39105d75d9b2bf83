"""Sequences of frames: the newest frame of each camera, related to the previous one."""
