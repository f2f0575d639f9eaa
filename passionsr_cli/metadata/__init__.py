"""Metadata of image files: EXIF, XMP, IPTC; kept, and true of the result."""
