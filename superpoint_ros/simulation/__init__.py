"""Cameras in worlds of which everything is known: what a front end sees, with its truth."""
