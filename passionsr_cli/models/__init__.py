"""One-step diffusion super-resolution models."""
