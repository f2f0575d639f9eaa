"""Executors that run a model, and tiled upscaling on top of them."""
