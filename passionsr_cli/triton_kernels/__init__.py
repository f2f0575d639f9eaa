"""Triton: quantized layers on the integer units of NVIDIA GPUs."""
