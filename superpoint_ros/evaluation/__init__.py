"""How good features are: metrics on pairs of planar images with known homographies."""
