"""From folders to images: layouts of the data sets, safe decoding, the in-memory store."""

from urd.data.decoding import IMAGE_SUFFIXES, UnreadableImage, read_mask, read_rgb
from urd.data.layouts import GOOD, DataSet, Sample, list_images, read_layout
from urd.data.store import Failure, decode_all, decode_or_refuse, resize_rgb

__all__ = [
    "GOOD",
    "IMAGE_SUFFIXES",
    "DataSet",
    "Failure",
    "Sample",
    "UnreadableImage",
    "decode_all",
    "decode_or_refuse",
    "list_images",
    "read_layout",
    "read_mask",
    "read_rgb",
    "resize_rgb",
]
