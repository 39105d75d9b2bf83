"""Training losses, a module for each head of the network."""
