"""Synthetic Shapes: rendered images whose corners are known exactly (paper, section 4)."""
