"""Frames in order: the newest of each camera, related to the one before."""
