"""The attacks: their norms, their kind, and whether they can be targeted."""

from secateur.registry.registry import Registry

ATTACKS = Registry("attack")

ATTACKS.register(
    "ddn",
    "secateur.attacks.ddn:ddn",
    "decoupled direction and norm (Rony et al. 2019)",
    norms=(2.0,),
    kind="minimum-norm",
    targeted=True,
)
ATTACKS.register(
    "fmn",
    "secateur.attacks.fmn:fmn",
    "fast minimum-norm (Pintor et al. 2021)",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
)

# Channels, height and width of the images that a network is made for.
ATTACKS.register(
    "steep",
    "secateur.attacks.steep:steep",
    "our own: FMN's radius, steepest steps, exact projections",
    norms=(1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
)
ATTACKS.register(
    "sigma-zero",
    "secateur.attacks.sigma_zero:sigma_zero",
    "smooth L0 and an adaptive threshold (Cinà et al. 2025)",
    norms=(0.0,),
    kind="minimum-norm",
    targeted=True,
)
ATTACKS.register(
    "alma",
    "secateur.attacks.alma:alma",
    "augmented Lagrangian (Rony et al. 2021)",
    norms=(2.0,),
    kind="minimum-norm",
    targeted=True,
)
ATTACKS.register(
    "pdpgd",
    "secateur.attacks.pdpgd:pdpgd",
    "primal-dual proximal gradient (Matyasko & Chau 2021)",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
)
ATTACKS.register(
    "strongest",
    "secateur.attacks.strongest:strongest",
    "per image, the nearest example of several attacks",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
)
ATTACKS.register(
    "pgd",
    "secateur.attacks.fixed:pgd",
    "projected gradient descent (Madry et al. 2018)",
    norms=(2.0, float("inf")),
    kind="fixed-eps",
    targeted=True,
)
ATTACKS.register(
    "apgd",
    "secateur.attacks.fixed:apgd",
    "auto-PGD, DLR or cross-entropy (Croce & Hein 2020)",
    norms=(2.0, float("inf")),
    kind="fixed-eps",
    targeted=True,
)
ATTACKS.register(
    "fgsm",
    "secateur.attacks.single:fgsm",
    "one steepest step (Goodfellow et al. 2015)",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="fixed-eps",
    targeted=True,
)
ATTACKS.register(
    "noise",
    "secateur.attacks.single:noise",
    "random perturbations, no gradient",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="fixed-eps",
    targeted=True,
)
ATTACKS.register(
    "square",
    "secateur.attacks.square:square",
    "random squares, no gradient (Andriushchenko et al. 2020)",
    norms=(float("inf"),),
    kind="fixed-eps",
    targeted=True,
)
