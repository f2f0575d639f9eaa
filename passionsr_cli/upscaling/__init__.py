"""Many images: one by one or overlapping, resumable, in several processes or on Ray."""
