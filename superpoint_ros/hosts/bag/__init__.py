"""Host 3: a recording in, a recording out."""
