"""Files to tensors and back, tiles, colour, resampling, degradation."""
