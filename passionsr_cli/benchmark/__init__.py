"""Benchmark of a model on this machine, in each form and on each backend."""
