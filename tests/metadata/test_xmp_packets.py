"""Packets are read back by an XML parser, which has nothing to do with how they are corrected."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET

import pytest

from passionsr_cli.metadata import xmp_packets

PHOTOS = "http://ns.google.com/photos/1.0/"
SPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "Container": PHOTOS + "container/",
    "Item": PHOTOS + "container/item/",
    "Camera": PHOTOS + "camera/",
    "GPano": PHOTOS + "panorama/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "MP": "http://ns.microsoft.com/photo/1.2/",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    "xmpTPg": "http://ns.adobe.com/xap/1.0/t/pg/",
}
NAMESPACES = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in SPACES.items())
# Faces, as programs write them.
REGIONS = """<mwg-rs:Regions rdf:parseType="Resource">
 <mwg-rs:AppliedToDimensions stDim:w="320" stDim:h="240" stDim:unit="pixel"/>
 <mwg-rs:RegionList><rdf:Bag><rdf:li mwg-rs:Name="Ann"/></rdf:Bag></mwg-rs:RegionList>
</mwg-rs:Regions>"""
# As phones and programs write it: properties as attributes and as elements, some nested.
PACKET = f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {NAMESPACES}>
<rdf:Description Camera:MotionPhoto="1" Camera:MotionPhotoVersion='1' Camera:BurstID="b"
  hdrgm:Version="1.0" xmpNote:HasExtendedXMP="0123" exif:PixelXDimension="640"
  GPano:FullPanoWidthPixels="1000" GPano:CroppedAreaTopPixels="50" GPano:ProjectionType="flat"
  exif:FocalPlaneXResolution="5184000/894" xmp:Rating="4">
 <exif:PixelYDimension>480</exif:PixelYDimension>
 <tiff:ImageWidth> 640 </tiff:ImageWidth>
 <exif:SubjectArea><rdf:Seq><rdf:li>320</rdf:li><rdf:li>240</rdf:li></rdf:Seq></exif:SubjectArea>
 <MP:RegionInfo rdf:parseType="Resource"/>
 {REGIONS}
 <xmpTPg:MaxPageSize stDim:w="210" stDim:h="297" stDim:unit="Millimeters"/>
 <dc:title><rdf:Alt><rdf:li xml:lang="x-default">640 &gt; 480, Grüße</rdf:li></rdf:Alt></dc:title>
 <Container:Directory><rdf:Seq>
  <rdf:li rdf:parseType="Resource"><Container:Item Item:Length="9"/></rdf:li>
 </rdf:Seq></Container:Directory>
 <xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource"><xmp:Label>t</xmp:Label></rdf:li>
 </rdf:Alt></xmp:Thumbnails>
 <hdrgm:GainMapMax><rdf:Seq><rdf:li>2.0</rdf:li></rdf:Seq></hdrgm:GainMapMax>
 <Camera:MicroVideo>1</Camera:MicroVideo>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def _properties(packet: bytes) -> dict[str, str]:
    """Everything a packet says, by namespace and name."""
    found: dict[str, str] = {}
    for element in ET.fromstring(packet).iter():
        found.update(element.attrib)
        found[element.tag] = (element.text or "").strip()
    return found


@pytest.mark.parametrize("prefix", ["Camera", "GCamera", "g"])
def test_a_result_promises_nothing_that_it_has_not(prefix: str) -> None:
    packet = PACKET.replace("Camera:", f"{prefix}:").replace("xmlns:Camera", f"xmlns:{prefix}")
    result = xmp_packets.of_result(packet.encode(), (640, 480), (2560, 960))
    said = _properties(result)
    gone = ("container", "hdr-gain-map", "MotionPhoto", "MicroVideo", "Thumbnails", "xmp/note")
    gone += ("FocalPlane", "SubjectArea")
    assert not [name for name in said if any(part in name for part in gone)]

    def value(prefix: str, name: str) -> str:
        return said["{" + SPACES[prefix] + "}" + name]

    assert value("exif", "PixelXDimension") == value("tiff", "ImageWidth") == "2560"
    assert value("exif", "PixelYDimension") == "960"
    assert value("GPano", "FullPanoWidthPixels") == "4000"
    assert value("GPano", "CroppedAreaTopPixels") == "100"
    assert value("GPano", "ProjectionType") == "flat"
    assert value("Camera", "BurstID") == "b"
    assert value("xmp", "Rating") == "4"
    assert value("rdf", "li") == "640 > 480, Grüße"


@pytest.mark.parametrize("as_elements", [False, True])
def test_regions_were_marked_on_the_size_of_the_result(as_elements: bool) -> None:
    packet = PACKET
    if as_elements:
        packet = packet.replace(
            'AppliedToDimensions stDim:w="320" stDim:h="240" stDim:unit="pixel"/>',
            'AppliedToDimensions rdf:parseType="Resource"><stDim:w>320</stDim:w>'
            "<stDim:h> 240 </stDim:h></mwg-rs:AppliedToDimensions>",
        )
        assert packet != PACKET
    root = ET.fromstring(xmp_packets.of_result(packet.encode(), (640, 480), (2560, 960)))
    sizes = []
    for name in ("mwg-rs", "AppliedToDimensions"), ("xmpTPg", "MaxPageSize"):
        (found,) = root.iter("{" + SPACES[name[0]] + "}" + name[1])
        said = _properties(ET.tostring(found))
        sizes.append([said["{" + SPACES["stDim"] + "}" + side] for side in "wh"])
    # That of paper has nothing to do with it.
    assert sizes == [["1280", "480"], ["210", "297"]]


def test_a_turned_picture_has_no_regions() -> None:
    packet = PACKET.encode()
    assert xmp_packets.upright(packet, turned=False) == packet
    turned = xmp_packets.upright(packet, turned=True)
    said = _properties(turned)
    assert not [name for name in said if "egions" in name or "RegionInfo" in name]
    assert said["{" + SPACES["exif"] + "}PixelXDimension"] == "640"
    # Nothing else has gone.
    expected = packet.replace(REGIONS.encode(), b"")
    assert turned == expected.replace(b'<MP:RegionInfo rdf:parseType="Resource"/>', b"")


@pytest.mark.parametrize(("unit", "stays"), [("pixel", False), ("relative", True)])
def test_regions_in_pixels_are_those_of_the_source(unit: str, stays: bool) -> None:
    region = (
        '<Iptc4xmpExt:ImageRegion xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f'<rdf:Bag><rdf:li Iptc4xmpExt:rbUnit="{unit}" Iptc4xmpExt:rbX="10"/></rdf:Bag>'
        "</Iptc4xmpExt:ImageRegion>"
    )
    packet = PACKET.replace(REGIONS, region).encode()
    result = xmp_packets.of_result(packet, (640, 480), (2560, 960))
    assert (b"ImageRegion" in result) is stays


def test_what_says_nothing_of_the_file_stays_byte_by_byte() -> None:
    plain = PACKET.partition("<rdf:Description")[0] + (
        '<rdf:Description dc:title = "a > b" /><!-- <a b="c --></rdf:RDF></x:xmpmeta>'
    )
    for packet in (plain.encode(), b"<x/>", b"\xff\xfe<x/>", b"", b"<a b='", b"no XML"):
        assert xmp_packets.of_result(packet, (1, 1), (4, 4)) == packet


@pytest.mark.parametrize(
    "piece", ["<Camera:MotionPhoto>", "<a ", "<a b='", '<a b="c" ', "<", " ", "<hdrgm:x>", "</a>"]
)
def test_damaged_packets_take_time_by_their_length(piece: str) -> None:
    head = PACKET.partition("<rdf:Description")[0]
    started = time.perf_counter()
    xmp_packets.of_result((head + piece * (1_000_000 // len(piece))).encode(), (1, 1), (4, 4))
    assert time.perf_counter() - started < 5
