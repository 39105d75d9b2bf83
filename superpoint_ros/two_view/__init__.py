"""Features of two images to matches, homography and motion."""
