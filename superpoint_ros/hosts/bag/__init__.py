"""Host 3: the detector from recording to recording."""
