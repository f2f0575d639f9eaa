"""PassionSR's own checkpoints, and the arithmetic of its released code."""
