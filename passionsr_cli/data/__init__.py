"""Images for learning and evaluation: crops, degradation, calibration images, photographs."""
