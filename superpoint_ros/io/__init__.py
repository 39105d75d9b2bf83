"""Atomic file writes, image files, and the package's own resources."""
