"""Pruning: criteria score channels, a plan selects them, surgery removes them, a proof checks the result."""

from secateur.pruning.apply import PruneReport as PruneReport
from secateur.pruning.apply import apply as apply
from secateur.pruning.apply import prune as prune
from secateur.pruning.calibration_stats import CalibrationStats as CalibrationStats
from secateur.pruning.filter_matrix import filters as filters
from secateur.pruning.history import history as history
from secateur.pruning.planning import plan as plan
from secateur.pruning.saving import load as load
from secateur.pruning.saving import origin as origin
from secateur.pruning.saving import save as save
from secateur.pruning.saving import saved_statistics as saved_statistics
from secateur.pruning.schedule import iterative as iterative
from secateur.pruning.schedule import one_shot as one_shot
from secateur.pruning.weight_masks import MaskReport as MaskReport
from secateur.pruning.weight_masks import count_nonzero as count_nonzero
from secateur.pruning.weight_masks import mask as mask
from secateur.pruning.weight_masks import reapply_masks as reapply_masks
from secateur.surgery.plan import Plan as Plan
