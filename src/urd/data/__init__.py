"""From folders to images: layouts of the data sets, safe decoding, the in-memory store."""

from urd.data.decoding import IMAGE_SUFFIXES, UnreadableImage, read_mask, read_masks, read_rgb
from urd.data.layouts import (
    GOOD,
    DataSet,
    Sample,
    list_images,
    list_masks,
    masks_by_name,
    read_layout,
)
from urd.data.regions_of_interest import (
    PER_IMAGE,
    Region,
    RegionsOfInterest,
    paint_outside,
    read_regions,
)
from urd.data.sources import SOURCES, Source
from urd.data.store import Failure, decode_all, decode_or_refuse, resize_mask, resize_rgb

__all__ = [
    "GOOD",
    "IMAGE_SUFFIXES",
    "PER_IMAGE",
    "SOURCES",
    "DataSet",
    "Failure",
    "Region",
    "RegionsOfInterest",
    "Sample",
    "Source",
    "UnreadableImage",
    "decode_all",
    "decode_or_refuse",
    "list_images",
    "list_masks",
    "masks_by_name",
    "paint_outside",
    "read_layout",
    "read_mask",
    "read_masks",
    "read_regions",
    "read_rgb",
    "resize_mask",
    "resize_rgb",
]
