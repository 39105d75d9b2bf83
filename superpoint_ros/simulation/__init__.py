"""Simulated cameras in scenes with ground truth."""
