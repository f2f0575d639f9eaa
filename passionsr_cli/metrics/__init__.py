"""Image quality: pyiqa behind one door."""
