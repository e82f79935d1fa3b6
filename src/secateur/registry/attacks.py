"""The attacks, one row each: everything about an attack that is known without running it.

``norms``, ``kind`` and ``targeted`` say what it can be asked for, ``random`` whether it draws random numbers,
``cost`` the passes of a step, ``settings`` the rules of its settings and ``renamed`` their former names,
``audits`` the norms in which an audit compares other attacks with it, ``study`` the settings of a study that
names none, ``converges_from`` the function that gives the query from which early stopping counts,
``science`` its version in the ids of cells; ``label``, ``paper`` and ``bibtex`` are for reports. The command
line, studies, costs, citations, audits, benchmarks and tests read these rows: there is no other list.
"""

import math

from secateur.budgets import L0_PIXELS
from secateur.registry.registry import Registry
from secateur.registry.settings import (
    DECAY,
    EPS,
    FACTOR,
    FLAG,
    LEAST_RATIO,
    NORM,
    NORMS,
    POSITIVE,
    SHARE,
    STEPS,
    number,
    whole,
    word,
)

ATTACKS = Registry("attack")
_DESCENT = {"kind": "minimum-norm", "targeted": True, "random": False, "cost": "1 fwd, 1 bwd"}
"""Facts of a minimum-norm attack that follows one gradient per step and draws no random numbers."""
_FIXED = {"kind": "fixed-eps", "targeted": True}

ATTACKS.register(
    "ddn",
    "secateur.attacks.ddn:ddn",
    "decoupled direction and norm (Rony et al. 2019)",
    norms=(2.0,),
    **_DESCENT,
    paper="arXiv:1811.09600",
    # What a study takes where its file says nothing: docs/attacking.md, "DDN in a study".
    study={"loss": "difference", "levels": None},
    label="DDN",
    bibtex=("rony2019",),
    audits=(2.0,),
    settings={
        "steps": STEPS,
        "init_eps": POSITIVE,
        "gamma": FACTOR,
        "alpha": POSITIVE,
        "alpha_final": POSITIVE,
        "schedule": word("cosine", "constant"),
        "loss": word("cross_entropy", "difference", or_function=True),
        "levels": whole(2, optional=True),
    },
)
ATTACKS.register(
    "fmn",
    "secateur.attacks.fmn:fmn",
    "fast minimum-norm (Pintor et al. 2021)",
    norms=NORMS,
    **_DESCENT,
    paper="arXiv:2102.12827",
    science=2,
    label="FMN",
    bibtex=("pintor2021",),
    audits=NORMS,
    settings={
        "norm": NORM,
        "steps": STEPS,
        "alpha": POSITIVE,
        "alpha_final": POSITIVE,
        "gamma": FACTOR,
        "gamma_final": FACTOR,
        "escape": FLAG,
    },
)
ATTACKS.register(
    "steep",
    "secateur.attacks.steep.attack:steep",
    "our own: a survey of classes, FMN's radius, exact projections",
    norms=NORMS,
    **_DESCENT,
    science=8,
    converges_from="secateur.attacks.steep.attack:converges_from",
    bibtex=("pintor2021", "matyasko2021"),
    audits=(1.0, 2.0, math.inf),
    settings={
        "norm": NORM,
        "steps": STEPS,
        "n_surveyed": whole(1, optional=True),
        "pdpgd_share": number(least=0, below=1, optional=True),
        "step": number(above=0, optional=True),
        "decay": DECAY,
        "momentum": number(least=0, below=1, optional=True),
        "gamma": FACTOR,
        "gamma_final": FACTOR,
    },
    renamed={"classes": "n_surveyed", "outside": "pdpgd_share", "inertia": "momentum"},
)
ATTACKS.register(
    "sigma-zero",
    "secateur.attacks.sigma_zero:sigma_zero",
    "smooth L0 and an adaptive threshold (Cinà et al. 2025)",
    norms=(0.0, L0_PIXELS),
    **_DESCENT,
    paper="arXiv:2402.01879",
    science=2,
    label="σ-zero",
    bibtex=("cina2025",),
    audits=(0.0, L0_PIXELS),
    settings={
        "norm": NORM,
        "steps": STEPS,
        "eta": POSITIVE,
        "eta_final": POSITIVE,
        "sigma": POSITIVE,
        "tau": SHARE,
        "t": POSITIVE,
    },
    renamed={"step": "eta", "step_final": "eta_final", "threshold": "tau", "threshold_step": "t"},
)
ATTACKS.register(
    "alma",
    "secateur.attacks.alma:alma",
    "augmented Lagrangian (Rony et al. 2021)",
    norms=(2.0,),
    **_DESCENT,
    paper="arXiv:2011.11857",
    science=3,
    label="ALMA",
    bibtex=("rony2021",),
    settings={
        "steps": STEPS,
        "init_eps": POSITIVE,
        "lr_reduction": DECAY,
        "rho": POSITIVE,
        "mu": POSITIVE,
        "gamma": number(least=1),
        "tau": DECAY,
        "check_steps": whole(1),
        "alpha": SHARE,
    },
    renamed={"first": "init_eps", "decay": "lr_reduction", "every": "check_steps", "average": "alpha"},
)
ATTACKS.register(
    "pdpgd",
    "secateur.attacks.pdpgd:pdpgd",
    "primal-dual proximal gradient (Matyasko & Chau 2021)",
    norms=NORMS,
    **_DESCENT,
    paper="arXiv:2106.01538",
    science=4,
    label="PDPGD",
    bibtex=("matyasko2021",),
    settings={
        "norm": NORM,
        "steps": STEPS,
        "primal_lr": POSITIVE,
        "primal_lr_decrease": DECAY,
        "dual_ratio_init": number(least=LEAST_RATIO, most=1 / LEAST_RATIO),
        "dual_lr": POSITIVE,
        "dual_lr_decrease": DECAY,
        "dual_ema": SHARE,
    },
    renamed={
        "step": "primal_lr",
        "decay": "primal_lr_decrease",
        "ratio": "dual_ratio_init",
        "dual_step": "dual_lr",
        "dual_decay": "dual_lr_decrease",
        "average": "dual_ema",
    },
)
ATTACKS.register(
    "strongest",
    "secateur.attacks.ensemble:strongest",
    "per image, the nearest example of several attacks",
    norms=NORMS,
    kind="minimum-norm",
    targeted=True,
    random=False,
    cost="its members'",
    science=7,
    converges_from="secateur.attacks.ensemble:converges_from",
    bibtex=("cina2025", "matyasko2021", "pintor2021", "rony2019"),
    settings={"norm": NORM, "steps": STEPS},
)
ATTACKS.register(
    "pgd",
    "secateur.attacks.pgd:pgd",
    "projected gradient descent (Madry et al. 2018)",
    norms=(2.0, math.inf),
    **_FIXED,
    science=4,
    paper="arXiv:1706.06083",
    cost="1 fwd, 1 bwd",
    label="PGD",
    bibtex=("madry2018",),
    settings={
        "norm": NORM,
        "eps": EPS,
        "steps": STEPS,
        "step": number(above=0, optional=True),
        "loss": word("margin", "ce", "dlr", or_function=True),
        "random_start": FLAG,
    },
)
ATTACKS.register(
    "apgd",
    "secateur.attacks.apgd:apgd",
    "auto-PGD, DLR or cross-entropy (Croce & Hein 2020)",
    norms=(2.0, math.inf),
    **_FIXED,
    science=5,
    paper="arXiv:2003.01690",
    cost="1 fwd, 1 bwd",
    label="APGD",
    bibtex=("croce2020",),
    settings={
        "norm": NORM,
        "eps": EPS,
        "steps": STEPS,
        "loss": word("margin", "ce", "dlr", or_function=True),
        "rho": number(least=0, most=1),
        "random_start": FLAG,
    },
)
ATTACKS.register(
    "fgsm",
    "secateur.attacks.fgsm:fgsm",
    "one steepest step (Goodfellow et al. 2015)",
    norms=NORMS,
    **_FIXED,
    science=4,
    paper="arXiv:1412.6572",
    random=False,
    cost="2 fwd, 1 bwd, once",
    label="FGSM",
    bibtex=("goodfellow2015",),
    settings={"norm": NORM, "eps": EPS},
)
ATTACKS.register(
    "noise",
    "secateur.attacks.fgsm:noise",
    "random perturbations, no gradient",
    norms=NORMS,
    **_FIXED,
    science=3,
    cost="1 fwd",
    bibtex=(),
    settings={"norm": NORM, "eps": EPS, "steps": STEPS},
)
ATTACKS.register(
    "square",
    "secateur.attacks.square_attack:square",
    "random squares, no gradient (Andriushchenko et al. 2020)",
    norms=(math.inf,),
    **_FIXED,
    science=3,
    paper="arXiv:1912.00049",
    cost="1 fwd",
    label="Square",
    bibtex=("andriushchenko2020",),
    settings={"eps": EPS, "steps": STEPS, "area": number(above=0, most=1)},
)
