"""Calibration: what values a model's tensors take on the user's data, found once and used by every target."""
