"""What every host shares: parameters and topics, message encodings, calibration, drawing, diagnostics."""
