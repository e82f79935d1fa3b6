"""Pruning: criteria score channels, a plan says which go, surgery removes them and proves itself."""

from secateur.pruning.carry_out import PruneReport as PruneReport
from secateur.pruning.carry_out import apply as apply
from secateur.pruning.carry_out import prune as prune
from secateur.pruning.filter_matrix import filters as filters
from secateur.pruning.masks import MaskReport as MaskReport
from secateur.pruning.masks import held as held
from secateur.pruning.masks import mask as mask
from secateur.pruning.masks import nonzero as nonzero
from secateur.pruning.planning import plan as plan
from secateur.pruning.plans import Plan as Plan
from secateur.pruning.saving import history as history
from secateur.pruning.saving import load as load
from secateur.pruning.saving import origin as origin
from secateur.pruning.saving import save as save
from secateur.pruning.saving import saved_statistics as saved_statistics
from secateur.pruning.schedule import iterative as iterative
from secateur.pruning.schedule import one_shot as one_shot

__all__ = [
    "MaskReport",
    "Plan",
    "PruneReport",
    "apply",
    "filters",
    "held",
    "history",
    "iterative",
    "load",
    "mask",
    "nonzero",
    "one_shot",
    "origin",
    "plan",
    "prune",
    "save",
]
