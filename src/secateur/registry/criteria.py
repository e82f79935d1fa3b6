"""The criteria that score channels."""

from secateur.registry.registry import Registry

CRITERIA = Registry("criterion")

CRITERIA.register("l1", "secateur.pruning.criteria:l1", "sum of absolute kernel weights (Li et al. 2017)")
CRITERIA.register("random", "secateur.pruning.criteria:random", "seeded, uniform over channels")
CRITERIA.register("l2", "secateur.pruning.criteria_weights:l2", "Euclidean norm of the filters")
CRITERIA.register(
    "group_norm",
    "secateur.pruning.criteria_weights:group_norm",
    "norm of all that goes along (Fang et al. 2023)",
)
CRITERIA.register(
    "bn_scale",
    "secateur.pruning.criteria_weights:bn_scale",
    "scale of batch normalisation (Liu et al. 2017)",
    needs_layers=True,
)
CRITERIA.register(
    "fpgm", "secateur.pruning.criteria_weights:fpgm", "distance from the geometric median (He et al. 2019)"
)
CRITERIA.register(
    "lamp", "secateur.pruning.criteria_weights:lamp", "share of the layer's larger channels (Lee et al. 2021)"
)
CRITERIA.register(
    "taylor",
    "secateur.pruning.criteria_data:taylor",
    "first-order change of the loss (Molchanov et al. 2019)",
    needs_batch=True,
)
CRITERIA.register(
    "robust_taylor",
    "secateur.pruning.criteria_data:taylor",
    "the same on adversarial images: what robustness needs",
    needs_batch="adversarial",
)
CRITERIA.register(
    "hessian",
    "secateur.pruning.criteria_data:hessian",
    "second-order change of the loss, diagonal (LeCun et al. 1990)",
    needs_batch=True,
)
CRITERIA.register(
    "activation", "secateur.pruning.criteria_data:activation", "mean activation over images", needs_batch=True
)
CRITERIA.register(
    "growing_reg",
    "secateur.pruning.criteria_weights:group_norm",
    "group_norm, for networks trained with the penalty growing_reg (Wang et al. 2021)",
)
CRITERIA.register(
    "weight_magnitude",
    "secateur.pruning.masks:magnitude",
    "masks single weights: the smallest (Han et al. 2015)",
    kind="weights",
)
CRITERIA.register(
    "weight_random", "secateur.pruning.masks:uniform", "masks single weights at random", kind="weights"
)
