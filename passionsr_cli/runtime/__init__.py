"""Executors that run a model, and the upscaler on top of them."""
