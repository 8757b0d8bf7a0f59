"""From folders to images: layouts of data sets, safe decoding, images in memory."""

from urd.data.decoding import read_mask, read_masks, read_rgb
from urd.data.finding import find_named, name_of, search
from urd.data.image_files import (
    DEFAULT_READING,
    Reading,
)
from urd.data.layouts import FOLDERS, GOOD, DataSet, Sample, read_good_images, read_layout
from urd.data.pairing import name_below, pair
from urd.data.picture import UnreadableImage
from urd.data.rois import (
    PER_IMAGE,
    Roi,
    Rois,
    paint_outside,
    read_rois,
)
from urd.data.sources import SOURCES
from urd.data.store import decode_all, decode_or_refuse, resize_mask, resize_rgb

__all__ = [
    "DEFAULT_READING",
    "FOLDERS",
    "GOOD",
    "PER_IMAGE",
    "SOURCES",
    "DataSet",
    "Reading",
    "Roi",
    "Rois",
    "Sample",
    "UnreadableImage",
    "decode_all",
    "decode_or_refuse",
    "find_named",
    "name_below",
    "name_of",
    "paint_outside",
    "pair",
    "read_good_images",
    "read_layout",
    "read_mask",
    "read_masks",
    "read_rgb",
    "read_rois",
    "resize_mask",
    "resize_rgb",
    "search",
]
