"""Relate the features of two images: matches, homography and motion."""
