"""Images as arrays, whole or in strips: sizes, colour fixes, transparency."""
