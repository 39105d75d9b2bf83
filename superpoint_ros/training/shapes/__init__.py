"""Synthetic Shapes: rendered pictures whose corners are known exactly (paper, section 4)."""
