"""Calibrated models on disk: writing, finding, reading, importing."""
