"""The number theory of quantization; knows no diffusion."""
