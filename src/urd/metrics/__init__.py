"""Exact ranking and region metrics with the protocol named; usable alone, without torch."""

from urd.metrics.curves import pro_curve, roc_curve
from urd.metrics.images import TestImage
from urd.metrics.protocol import METRICS, PIXEL_PROTOCOL, evaluate, evaluate_maps
from urd.metrics.ranking import auroc, average_precision, f1_max
from urd.metrics.regions import aupro, aupro_200_thresholds, label_regions

__all__ = [
    "METRICS",
    "PIXEL_PROTOCOL",
    "TestImage",
    "aupro",
    "aupro_200_thresholds",
    "auroc",
    "average_precision",
    "evaluate",
    "evaluate_maps",
    "f1_max",
    "label_regions",
    "pro_curve",
    "roc_curve",
]
