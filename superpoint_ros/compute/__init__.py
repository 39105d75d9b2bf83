"""Thread limits and compiled models, shared by all computations."""
