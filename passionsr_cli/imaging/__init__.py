"""Image files to pictures and back."""
