"""Layers of a model on integer grids: while they learn, and frozen."""
