"""Where learning and evaluation get images: crops, degradation, calibration images, photographs."""
