"""Turn an image into features: network, weights, runtimes and decoding."""
