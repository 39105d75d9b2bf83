"""Everything the hosts share: parameters and topics, message encodings, calibration, drawing, diagnostics."""
