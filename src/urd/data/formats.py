"""Recognise formats of image files by their first bytes, never by their names."""

from __future__ import annotations

import re

HEAD_BYTES = 1024  # enough to recognise a format
_SIGNATURES = {  # at the beginning of a file
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "BMP": rb"BM.{4}.{4}.{4}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "camera raw": rb"FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR|FOVb|.{4}ftypcrx|II\*\0.{4}CR",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "WEBP": rb"RIFF.{4}WEBP",
    "PAM": rb"P7\n",
    "PPM": rb"P[1-6]\s(\s*#[^\n]*\n)*\s*\d+\s|P[Ff]\s+\d+\s",
    "GIF": rb"GIF8[79]a",
    "JPEG2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "AVIF": rb".{4}ftypavi[fs]",
    "HEIC": rb".{4}ftyp(hei|hev|mif1|msf1)",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG XR": rb"II\xbc\x01",
    "Photoshop": rb"8BPS\0[\x01\x02]",
    "GIMP": rb"gimp xcf ",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "Radiance HDR": rb"#\?(RADIANCE|RGBE)",
    "DICOM": rb".{128}DICM",
    "FITS": rb"SIMPLE  =",
    "ICO": rb"\0\0[\x01\x02]\0[^\0]\0.{3}\0",
    "ICNS": rb"icns",
    "DDS": rb"DDS \x7c\0\0\0",
    "KTX": rb"\xabKTX [12]",
    "QOI": rb"qoif",
    "SGI": rb"\x01\xda[\0\x01][\x01\x02]\0[\x01-\x03]",
    "Sun raster": rb"\x59\xa6\x6a\x95",
    "PCX": rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]",
    "FLIF": rb"FLIF",
    "BPG": rb"BPG\xfb",
    "DjVu": rb"AT&TFORM",
    "SVG": rb"(\xef\xbb\xbf)?\s*(<\?xml.*|<!--.*|<!DOCTYPE svg.*)?<svg[\s>]",
}
_PATTERNS = {name: re.compile(signature, re.DOTALL) for name, signature in _SIGNATURES.items()}


def format_of(head: bytes) -> str | None:
    """The format of a file from its first `HEAD_BYTES`, supported or not; `None`: unknown."""
    return next((name for name, pattern in _PATTERNS.items() if pattern.match(head)), None)
