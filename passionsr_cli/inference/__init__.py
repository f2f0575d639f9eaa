"""Executors that run a model, and the cache of their graphs."""
