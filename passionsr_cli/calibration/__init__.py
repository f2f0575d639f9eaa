"""Calibration: teacher targets, observing, and running a method's stages."""
