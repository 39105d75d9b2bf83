"""Files, images and where the package keeps its own."""
