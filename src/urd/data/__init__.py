"""From folders to images: layouts of data sets, safe decoding, images in memory."""

from urd.data.decoding import read_mask, read_masks, read_rgb
from urd.data.finding import Found, find_named, name_of, search
from urd.data.formats import HEAD_BYTES, format_of
from urd.data.image_files import (
    DEFAULT_READING,
    FORMATS,
    IMAGE_SUFFIXES,
    Reading,
    open_picture,
)
from urd.data.layouts import FOLDERS, GOOD, DataSet, Sample, read_layout
from urd.data.pairing import Pairs, name_below, pair
from urd.data.picture import UnreadableImage
from urd.data.rois import (
    PER_IMAGE,
    Roi,
    Rois,
    paint_outside,
    read_rois,
)
from urd.data.sources import SOURCES, Source
from urd.data.store import decode_all, decode_or_refuse, resize_mask, resize_rgb

__all__ = [
    "DEFAULT_READING",
    "FOLDERS",
    "FORMATS",
    "GOOD",
    "HEAD_BYTES",
    "IMAGE_SUFFIXES",
    "PER_IMAGE",
    "SOURCES",
    "DataSet",
    "Found",
    "Pairs",
    "Reading",
    "Roi",
    "Rois",
    "Sample",
    "Source",
    "UnreadableImage",
    "decode_all",
    "decode_or_refuse",
    "find_named",
    "format_of",
    "name_below",
    "name_of",
    "open_picture",
    "paint_outside",
    "pair",
    "read_layout",
    "read_mask",
    "read_masks",
    "read_rgb",
    "read_rois",
    "resize_mask",
    "resize_rgb",
    "search",
]
