"""How good features are: metrics on pairs of planar pictures with known homographies."""
