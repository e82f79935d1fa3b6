"""Pruning: criteria score channels, a plan selects them, surgery removes them, a proof checks the result."""

from secateur.pruning.apply import PruneReport, apply, prune
from secateur.pruning.calibration_stats import CalibrationStats
from secateur.pruning.filter_matrix import filters
from secateur.pruning.planning import plan
from secateur.pruning.saving import history, load, origin, save, saved_statistics
from secateur.pruning.schedule import iterative, one_shot
from secateur.pruning.weight_masks import MaskReport, count_nonzero, mask, reapply_masks
from secateur.surgery.plan import Plan

__all__ = [
    "CalibrationStats",
    "MaskReport",
    "Plan",
    "PruneReport",
    "apply",
    "count_nonzero",
    "filters",
    "history",
    "iterative",
    "load",
    "mask",
    "one_shot",
    "origin",
    "plan",
    "prune",
    "reapply_masks",
    "save",
    "saved_statistics",
]
