"""What computations share: threads and compiled models."""
