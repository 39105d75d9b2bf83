"""Host 3: the nodes from recording to recording."""
