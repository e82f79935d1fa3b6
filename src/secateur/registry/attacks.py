"""The attacks: their norms, their kind, whether they can be targeted, their paper, and what a step costs."""

import inspect

from secateur.registry.registry import Registry

ATTACKS = Registry("attack")


def takes_steps(name: str) -> bool:
    """Whether the attack called ``name`` iterates, which is to say that it has a setting ``steps``.

    Raises:
        UserError: no such attack.
    """
    facts = ATTACKS.entry(name).facts
    if "steps" in facts or not facts.get("installed"):
        return bool(facts.get("steps", True))
    return "steps" in inspect.signature(ATTACKS.get(name)).parameters


ATTACKS.register(
    "ddn",
    "secateur.attacks.ddn:ddn",
    "decoupled direction and norm (Rony et al. 2019)",
    norms=(2.0,),
    kind="minimum-norm",
    targeted=True,
    paper="arXiv:1811.09600",
    random=False,
    cost="1 fwd, 1 bwd",
    # What a study takes where its file says nothing: docs/attacking.md, "DDN in a study".
    study={"loss": "difference", "levels": None},
    label="DDN",
    bibtex=("rony2019",),
)
ATTACKS.register(
    "fmn",
    "secateur.attacks.fmn:fmn",
    "fast minimum-norm (Pintor et al. 2021)",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
    paper="arXiv:2102.12827",
    random=False,
    cost="1 fwd, 1 bwd",
    label="FMN",
    bibtex=("pintor2021",),
)
ATTACKS.register(
    "steep",
    "secateur.attacks.steep.attack:steep",
    "our own: a survey of classes, FMN's radius, exact projections",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
    random=False,
    cost="1 fwd, 1 bwd",
    science=7,
    converges_from="secateur.attacks.steep.attack:converges_from",
    bibtex=("pintor2021", "matyasko2021"),
)
ATTACKS.register(
    "sigma-zero",
    "secateur.attacks.sigma_zero:sigma_zero",
    "smooth L0 and an adaptive threshold (Cinà et al. 2025)",
    norms=(0.0,),
    kind="minimum-norm",
    targeted=True,
    paper="arXiv:2402.01879",
    random=False,
    cost="1 fwd, 1 bwd",
    label="σ-zero",
    bibtex=("cina2025",),
)
ATTACKS.register(
    "alma",
    "secateur.attacks.alma:alma",
    "augmented Lagrangian (Rony et al. 2021)",
    norms=(2.0,),
    kind="minimum-norm",
    targeted=True,
    paper="arXiv:2011.11857",
    random=False,
    cost="1 fwd, 1 bwd",
    science=2,
    label="ALMA",
    bibtex=("rony2021",),
)
ATTACKS.register(
    "pdpgd",
    "secateur.attacks.pdpgd:pdpgd",
    "primal-dual proximal gradient (Matyasko & Chau 2021)",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
    paper="arXiv:2106.01538",
    random=False,
    cost="1 fwd, 1 bwd",
    science=3,
    label="PDPGD",
    bibtex=("matyasko2021",),
)
ATTACKS.register(
    "strongest",
    "secateur.attacks.ensemble:strongest",
    "per image, the nearest example of several attacks",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
    random=False,
    cost="its members'",
    science=5,
    converges_from="secateur.attacks.ensemble:converges_from",
    bibtex=("cina2025", "matyasko2021", "pintor2021", "rony2019"),
)
ATTACKS.register(
    "pgd",
    "secateur.attacks.pgd:pgd",
    "projected gradient descent (Madry et al. 2018)",
    norms=(2.0, float("inf")),
    kind="fixed-eps",
    science=3,
    targeted=True,
    paper="arXiv:1706.06083",
    cost="1 fwd, 1 bwd",
    label="PGD",
    bibtex=("madry2018",),
)
ATTACKS.register(
    "apgd",
    "secateur.attacks.pgd:apgd",
    "auto-PGD, DLR or cross-entropy (Croce & Hein 2020)",
    norms=(2.0, float("inf")),
    kind="fixed-eps",
    science=3,
    targeted=True,
    paper="arXiv:2003.01690",
    cost="1 fwd, 1 bwd",
    label="APGD",
    bibtex=("croce2020",),
)
ATTACKS.register(
    "fgsm",
    "secateur.attacks.fgsm:fgsm",
    "one steepest step (Goodfellow et al. 2015)",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="fixed-eps",
    science=3,
    targeted=True,
    paper="arXiv:1412.6572",
    random=False,
    cost="2 fwd, 1 bwd, once",
    steps=False,
    label="FGSM",
    bibtex=("goodfellow2015",),
)
ATTACKS.register(
    "noise",
    "secateur.attacks.fgsm:noise",
    "random perturbations, no gradient",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="fixed-eps",
    science=3,
    targeted=True,
    cost="1 fwd",
    bibtex=(),
)
ATTACKS.register(
    "square",
    "secateur.attacks.square_attack:square",
    "random squares, no gradient (Andriushchenko et al. 2020)",
    norms=(float("inf"),),
    kind="fixed-eps",
    science=3,
    targeted=True,
    paper="arXiv:1912.00049",
    cost="1 fwd",
    label="Square",
    bibtex=("andriushchenko2020",),
)
