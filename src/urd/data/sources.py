"""The public benchmarks: address, licence, size and layout.

Nothing is downloaded. All facts are from the data sets' own pages.
"""

from __future__ import annotations

from dataclasses import dataclass

_NON_COMMERCIAL = "CC BY-NC-SA 4.0, no commercial use"


@dataclass(frozen=True)
class Source:
    """A data set that the user must download.

    Attributes:
        prefix: the prefix of DATA, for example in `mvtec_ad:ROOT/bottle`.
        layout: the name of its layout; see `layouts`.
    """

    prefix: str
    title: str
    url: str
    licence: str
    size: str
    layout: str
    categories: tuple[str, ...]

    def how_to_get(self) -> str:
        return f"{self.title} ({self.size}; {self.licence}) is at {self.url}"


SOURCES = {
    source.prefix: source
    for source in (
        Source(
            "mvtec_ad",
            "MVTec AD",
            "https://www.mvtec.com/company/research/datasets/mvtec-ad",
            _NON_COMMERCIAL,
            "5,354 images, 4.9 GB",
            "mvtec",
            (
                "bottle",
                "cable",
                "capsule",
                "carpet",
                "grid",
                "hazelnut",
                "leather",
                "metal_nut",
                "pill",
                "screw",
                "tile",
                "toothbrush",
                "transistor",
                "wood",
                "zipper",
            ),
        ),
        Source(
            "mpdd",
            "MPDD",
            "https://github.com/stepanje/MPDD",
            "no licence on its page: ask its authors",
            "1,346 images of 1024x1024",
            "mvtec",
            (
                "bracket_black",
                "bracket_brown",
                "bracket_white",
                "connector",
                "metal_plate",
                "tubes",
            ),
        ),
        Source(
            "btad",
            "BTAD",
            "https://avires.dimi.uniud.it/papers/btad/btad.zip",
            "research use, see https://github.com/pankajmishra000/VT-ADL",
            "about 2,500 images of 600x600 to 1600x1600",
            "btad",
            ("01", "02", "03"),
        ),
        Source(
            "visa",
            "VisA",
            "https://github.com/amazon-science/spot-diff",
            "CC BY 4.0",
            "10,821 images, 1.8 GB",
            "visa",
            (
                "candle",
                "capsules",
                "cashew",
                "chewinggum",
                "fryum",
                "macaroni1",
                "macaroni2",
                "pcb1",
                "pcb2",
                "pcb3",
                "pcb4",
                "pipe_fryum",
            ),
        ),
        Source(
            "mvtec_loco",
            "MVTec LOCO AD",
            "https://www.mvtec.com/company/research/datasets/mvtec-loco",
            _NON_COMMERCIAL,
            "3,644 images",
            "mvtec_loco",
            (
                "breakfast_box",
                "juice_bottle",
                "pushpins",
                "screw_bag",
                "splicing_connectors",
            ),
        ),
        Source(
            "mvtec_ad_2",
            "MVTec AD 2",
            "https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
            _NON_COMMERCIAL,
            "8,004 images of 2.3 to 5 megapixels",
            "mvtec_ad_2",
            (
                "can",
                "fabric",
                "fruit_jelly",
                "rice",
                "sheet_metal",
                "vial",
                "wallplugs",
                "walnuts",
            ),
        ),
    )
}
