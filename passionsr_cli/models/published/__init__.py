"""Foreign weights: downloading and converting what others published."""
