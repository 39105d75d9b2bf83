"""An image to features: network, weights, runtimes and decoding."""
