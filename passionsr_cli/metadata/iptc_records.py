"""IPTC's records (IIM) in the image resources of Photoshop, where JPEG files have them."""

from __future__ import annotations

import struct

SIGNATURE = b"Photoshop 3.0\0"
RESOURCE, IPTC = b"8BIM", 0x0404


def jpeg_segment(iptc: bytes) -> bytes:
    """The application segment of a JPEG that holds records of at most 65,500 bytes."""
    # A resource has a name, here an empty one of two bytes, and an even length.
    content = struct.pack(">4sHHI", RESOURCE, IPTC, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    return struct.pack(">HH", 0xFFED, len(SIGNATURE) + len(content) + 2) + SIGNATURE + content


def in_resources(resources: bytes) -> bytes | None:
    """The records among a block of image resources, None where there are none."""
    place = 0
    while resources[place : place + 4] == RESOURCE and place + 7 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, place + 4)
        # The name's length counts neither itself nor what makes both even.
        after_name = place + 6 + (resources[place + 6] + 2) // 2 * 2
        if after_name + 4 > len(resources):
            return None
        (length,) = struct.unpack_from(">I", resources, after_name)
        if number == IPTC:
            return resources[after_name + 4 : after_name + 4 + length]
        place = after_name + 4 + (length + 1) // 2 * 2
    return None
