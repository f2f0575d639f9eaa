"""Forecast of a calibration: memory, disk, minutes."""
