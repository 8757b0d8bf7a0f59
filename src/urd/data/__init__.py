"""From folders to images: layouts of the data sets, safe decoding, the in-memory store."""

from urd.data.decoding import read_mask, read_masks, read_rgb
from urd.data.formats import HEAD_BYTES, format_of
from urd.data.image_files import (
    DEFAULT_READING,
    FORMATS,
    IMAGE_SUFFIXES,
    Reading,
    open_picture,
)
from urd.data.layouts import (
    GOOD,
    DataSet,
    Sample,
    list_images,
    list_masks,
    masks_by_name,
    read_layout,
)
from urd.data.picture import UnreadableImage
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
    "DEFAULT_READING",
    "FORMATS",
    "GOOD",
    "HEAD_BYTES",
    "IMAGE_SUFFIXES",
    "PER_IMAGE",
    "SOURCES",
    "DataSet",
    "Failure",
    "Reading",
    "Region",
    "RegionsOfInterest",
    "Sample",
    "Source",
    "UnreadableImage",
    "decode_all",
    "decode_or_refuse",
    "format_of",
    "list_images",
    "list_masks",
    "masks_by_name",
    "open_picture",
    "paint_outside",
    "read_layout",
    "read_mask",
    "read_masks",
    "read_regions",
    "read_rgb",
    "resize_mask",
    "resize_rgb",
]
