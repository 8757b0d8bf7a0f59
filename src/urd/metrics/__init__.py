"""Exact ranking and component metrics with a named protocol; they do not need torch."""

from urd.metrics.components import aupro, aupro_200_thresholds, label_components
from urd.metrics.images import TestImage
from urd.metrics.metric import METRICS, Metric
from urd.metrics.protocol import PIXEL_PROTOCOL, Measured, evaluate, evaluate_maps, measure
from urd.metrics.ranking import auroc, average_precision, f1_max

__all__ = [
    "METRICS",
    "PIXEL_PROTOCOL",
    "Measured",
    "Metric",
    "TestImage",
    "aupro",
    "aupro_200_thresholds",
    "auroc",
    "average_precision",
    "evaluate",
    "evaluate_maps",
    "f1_max",
    "label_components",
    "measure",
]
