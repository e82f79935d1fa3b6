"""The criteria that score channels.

``needs_batch`` says that channels are scored on images, "adversarial" that these are attacked first;
``needs_layers`` that not every network has what is scored; ``draws`` that scores are random numbers; ``kind``
"weights" that single weights are masked.
"""

from secateur.registry.registry import Registry

CRITERIA = Registry("criterion")

CRITERIA.register(
    "l1",
    "secateur.pruning.criteria_weights:l1",
    "sum of absolute kernel weights (Li et al. 2017)",
    label="L₁ norm",
    paper="arXiv:1608.08710",
    bibtex=("li2017",),
)
CRITERIA.register(
    "random",
    "secateur.pruning.criteria_weights:random",
    "seeded, uniform over channels",
    draws=True,
    bibtex=(),
)
CRITERIA.register(
    "l2", "secateur.pruning.criteria_weights:l2", "Euclidean norm of the filters", label="L₂ norm", bibtex=()
)
CRITERIA.register(
    "group_norm",
    "secateur.pruning.criteria_weights:group_norm",
    "norm of all that goes along (Fang et al. 2023)",
    label="group norm",
    paper="arXiv:2301.12900",
    bibtex=("fang2023",),
)
CRITERIA.register(
    "bn_scale",
    "secateur.pruning.criteria_weights:bn_scale",
    "scale of batch normalisation (Liu et al. 2017)",
    needs_layers=True,
    label="BN scale",
    paper="arXiv:1708.06519",
    bibtex=("liu2017",),
)
CRITERIA.register(
    "fpgm",
    "secateur.pruning.criteria_weights:fpgm",
    "distance from the geometric median (He et al. 2019)",
    label="FPGM",
    paper="arXiv:1811.00250",
    bibtex=("he2019",),
)
CRITERIA.register(
    "lamp",
    "secateur.pruning.criteria_weights:lamp",
    "share of the layer's larger channels (Lee et al. 2021)",
    label="LAMP",
    paper="arXiv:2010.07611",
    bibtex=("lee2021",),
)
CRITERIA.register(
    "taylor",
    "secateur.pruning.criteria_data:taylor",
    "first-order change of the loss (Molchanov et al. 2019)",
    needs_batch=True,
    label="Taylor",
    paper="arXiv:1906.10771",
    bibtex=("molchanov2019",),
)
CRITERIA.register(
    "robust_taylor",
    "secateur.pruning.criteria_data:taylor",
    "the same on adversarial images: what robustness needs",
    needs_batch="adversarial",
    label="robust Taylor",
    paper="arXiv:1906.10771",
    bibtex=("molchanov2019",),
)
CRITERIA.register(
    "hessian",
    "secateur.pruning.criteria_data:hessian",
    "second-order change of the loss, diagonal (LeCun et al. 1990)",
    needs_batch=True,
    label="Hessian",
    bibtex=("lecun1990",),
)
CRITERIA.register(
    "activation",
    "secateur.pruning.criteria_data:activation",
    "mean activation over images",
    needs_batch=True,
    paper="arXiv:1607.03250",
    bibtex=("hu2016",),
)
CRITERIA.register(
    "growing_reg",
    "secateur.pruning.criteria_weights:group_norm",
    "group_norm, for networks trained with the penalty growing_reg (Wang et al. 2021)",
    label="growing regularisation",
    paper="arXiv:2012.09243",
    bibtex=("wang2021",),
)
CRITERIA.register(
    "weight_magnitude",
    "secateur.pruning.weight_masks:magnitude",
    "masks single weights: the smallest (Han et al. 2015)",
    kind="weights",
    label="weight magnitude",
    paper="arXiv:1506.02626",
    bibtex=("han2015",),
)
CRITERIA.register(
    "weight_random",
    "secateur.pruning.weight_masks:uniform",
    "masks single weights at random",
    kind="weights",
    draws=True,
    label="random weights",
    bibtex=(),
)
