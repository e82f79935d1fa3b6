"""How a network is trained or fine-tuned, as plain data: written in a study, carried out by ``train``.

The dataclasses below are the only definition of a recipe. What checks a study file, its JSON schema, the
checks of :func:`problems` and the table of docs/training.md are derived from their fields: a new setting is
a field here, and the code of ``secateur.train`` that reads it.
"""

import math
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from secateur.budgets import check_scale
from secateur.kinds import is_number

BIBTEX = {
    "adversary": {"madry": "madry2018", "trades": "zhang2019"},
    "penalty": {
        "bn_scale": "liu2017",
        "group_lasso": "wen2016",
        "group_norm": "fang2023",
        "growing_reg": "wang2021",
    },
    "distillation": {"distillation": "hinton2015"},
}
"""The papers of a recipe's parts, by part and kind: keys of ``report/templates/references.bib``."""


@dataclass(frozen=True)
class Setting:
    """What a setting does, the unit of its value, and which values it may have.

    ``ge``, ``gt``, ``le`` and ``lt`` are bounds (≥, >, ≤, <), ``choices`` the only values of a number. Words
    have their choices in their type.

    >>> Setting("factor per epoch", gt=0, le=1).range
    '(0, 1]'
    """

    help: str
    unit: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def range(self) -> str:
        """The values it may have, as an interval or a list; empty if all are possible."""
        if self.choices:
            return ", ".join(_spelled(choice) for choice in self.choices)
        low, high = (self.ge if self.gt is None else self.gt), (self.le if self.lt is None else self.lt)
        if low is None and high is None:
            return ""
        left = "(-inf" if low is None else f"{'[' if self.gt is None else '('}{low:g}"
        right = "inf)" if high is None else f"{high:g}{']' if self.lt is None else ')'}"
        return f"{left}, {right}"

    def allows(self, value: Any) -> bool:
        """Whether it may have this value; NaN and infinity only as one of its choices."""
        if self.choices:
            return value in self.choices
        if not is_number(value):
            return True
        return math.isfinite(value) and not (
            (self.ge is not None and value < self.ge)
            or (self.gt is not None and value <= self.gt)
            or (self.le is not None and value > self.le)
            or (self.lt is not None and value >= self.lt)
        )


@dataclass(frozen=True)
class Augment:
    """Random transformations of the training images.

    >>> Augment(padding=4, flip=True).rotation
    0.0
    """

    padding: Annotated[
        int, Setting("zeros around the image before a random crop", unit="pixels", ge=0, le=64)
    ] = 0
    rotation: Annotated[float, Setting("largest angle, uniform in ±", unit="degrees", ge=0, le=180)] = 0.0
    flip: Annotated[bool, Setting("mirror half of the images")] = False


@dataclass(frozen=True)
class Adversary:
    """Projected gradient descent inside the training loop; images lie in [0, 1].

    ``method="madry"`` trains on the adversarial images alone (Madry et al. 2018); with ``steps=1`` and a
    ``step_size`` of 1.25 ``epsilon`` this is the fast training of Wong et al. 2020. "trades" adds ``beta``
    times the divergence between the predictions on clean and adversarial images to the clean loss (Zhang et
    al. 2019).

    >>> Adversary(epsilon=8 / 255, step_size=2 / 255).steps
    7
    """

    epsilon: Annotated[
        float, Setting("budget; images lie in [0, 1], 8/255 may be written so", unit="pixel values", gt=0)
    ]
    step_size: Annotated[float, Setting("length of a step", unit="pixel values", gt=0)]
    steps: Annotated[int, Setting("gradient steps per batch", ge=1)] = 7
    norm: Annotated[float, Setting("norm of the budget and of a step", choices=(2.0, math.inf))] = math.inf
    random_start: Annotated[bool, Setting("start at a random point of the ball")] = True
    method: Annotated[
        Literal["madry", "trades"],
        Setting("madry: adversarial images alone; trades: clean loss and divergence"),
    ] = "madry"
    beta: Annotated[float, Setting("the weight of the divergence in trades", ge=0)] = 6.0
    fold: Annotated[
        bool, Setting("attack a copy with folded batch normalisation: the same up to rounding, and faster")
    ] = False


@dataclass(frozen=True)
class Distillation:
    """Learning from the softened predictions of a teacher (Hinton et al. 2015).

    The loss is (1 - ``weight``) times the recipe's own, plus ``weight`` times ``temperature``² times the
    divergence from the teacher. The teacher sees the clean images even if the student is trained on
    adversarial ones (Goldblum et al. 2020).

    >>> Distillation(weight=0.5).temperature
    4.0
    """

    weight: Annotated[float, Setting("share of the teacher in the loss", ge=0, le=1)] = 0.9
    temperature: Annotated[float, Setting("divides the logits of both networks", gt=0)] = 4.0


@dataclass(frozen=True)
class Penalty:
    """Training towards sparse channels, before they are pruned.

    ``kind`` is "bn_scale" (L1 norm of the scales of batch normalisation, Liu et al. 2017), "group_lasso" (the
    l2,1 norm over the channels of the dependency graph, Wen et al. 2016), "group_norm" (squared norms, shrunk
    the more the smaller a channel is, Fang et al. 2023) or "growing_reg" (squared norms, whose weights grow
    every epoch for the smallest channels, Wang et al. 2021).

    >>> Penalty("group_lasso", strength=1e-3).kind
    'group_lasso'
    """

    kind: Annotated[
        Literal["bn_scale", "group_lasso", "group_norm", "growing_reg"], Setting("which norm, see below")
    ]
    strength: Annotated[float, Setting("its factor in the loss", ge=0)] = 1e-4
    growth: Annotated[
        float, Setting("growing_reg: what the weights of the smallest channels gain per epoch", ge=0)
    ] = 1e-4
    alpha: Annotated[float, Setting("group_norm: exponent of the smallest channels", ge=0, lt=64)] = 4.0


@dataclass(frozen=True)
class Recipe:
    """One way to train by stochastic gradient descent; ``epochs=0`` trains nothing.

    ``schedule`` sets the learning rate once per epoch: half a cosine from ``learning_rate`` towards 0, a
    factor of ``decay`` per epoch, or constant; ``cosine_per_step`` follows the cosine in every step, so that
    a training of one or two epochs ends near 0 as well. The epoch with the best validation accuracy is kept:
    the clean one, or with ``select="robust"`` the one under the adversary.

    >>> Recipe(epochs=5, adversary=Adversary(8 / 255, 2 / 255), select="robust").learning_rate
    0.1
    """

    epochs: Annotated[int, Setting("passes over the images; 0 trains nothing", ge=0, le=100_000)] = 20
    batch_size: Annotated[int, Setting("images per step; batches are nearly equal", ge=1)] = 128
    learning_rate: Annotated[float, Setting("of the first epoch", gt=0)] = 0.1
    momentum: Annotated[float, Setting("of the gradient", ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Setting("L2 penalty, as in torch.optim.SGD", ge=0)] = 5e-4
    schedule: Annotated[
        Literal["cosine", "cosine_per_step", "exponential", "constant"],
        Setting("of the learning rate, per epoch or per step"),
    ] = "cosine"
    decay: Annotated[float, Setting("factor per epoch of the exponential schedule", gt=0, le=1)] = 0.1
    label_smoothing: Annotated[float, Setting("share of the uniform distribution", ge=0, lt=1)] = 0.0
    augment: Annotated[Augment | None, Setting("random transformations of the images")] = None
    adversary: Annotated[Adversary | None, Setting("adversarial training, see below")] = None
    checkpoint_every: Annotated[
        int, Setting("between checkpoints, of which the newest two are kept", unit="epochs", ge=1)
    ] = 5
    select: Annotated[
        Literal["clean", "robust"], Setting("the accuracy that chooses the best epoch on validation")
    ] = "clean"
    recalibrate: Annotated[
        bool, Setting("first estimate the statistics of batch normalisation anew; alone with epochs: 0")
    ] = False
    ema: Annotated[
        float, Setting("decay per step of the moving average that is evaluated and kept; 0: off", ge=0, lt=1)
    ] = 0.0
    accumulate: Annotated[int, Setting("parts of a batch whose gradients add up, to save memory", ge=1)] = 1
    precision: Annotated[Literal["float32", "bfloat16"], Setting("of the forward pass")] = "float32"
    channels_last: Annotated[
        bool, Setting("memory format; ignored on the CPU where oneDNN computes wrong gradients in it")
    ] = False
    distillation: Annotated[Distillation | None, Setting("learn from the dense network")] = None
    penalty: Annotated[Penalty | None, Setting("sparse training, see below")] = None


PARTS: dict[str, type[Any]] = {
    "augment": Augment,
    "adversary": Adversary,
    "distillation": Distillation,
    "penalty": Penalty,
}
"""The fields of a recipe that are records themselves."""


def setting_of(field: "Field[Any]") -> Setting:
    """What the field of a recipe or of one of its parts may be; words have the choices of their type.

    >>> setting_of(fields(Recipe)[0]).range
    '[0, 100000]'
    """
    kind, setting = get_args(field.type)
    if get_origin(kind) is Literal:
        return Setting(setting.help, choices=get_args(kind))
    return setting  # type: ignore[no-any-return]


def problems(recipe: Recipe) -> list[str]:
    """What makes a recipe impossible, one sentence each; empty if it can be carried out.

    >>> problems(Recipe(momentum=1.5))
    ['momentum must be in [0, 1), not 1.5']
    """
    found = [*_out_of_range(recipe)]
    if recipe.select == "robust" and recipe.adversary is None:
        found.append("select: robust needs an adversary")
    return found


def check_adversary(recipe: Recipe, bounds: tuple[float, float]) -> None:
    """Refuse an L∞ budget of adversarial training that is larger than the width of the images' ``bounds``.

    Raises:
        UserError: it is, and most likely in grey levels.

    >>> check_adversary(Recipe(adversary=Adversary(epsilon=8, step_size=2)), (0.0, 1.0))
    Traceback (most recent call last):
    secateur.errors.UserError: the adversary's epsilon is 8, but images lie in [0, 1] (8 grey levels ...)
    """
    if (adversary := recipe.adversary) is not None and adversary.norm == math.inf:
        check_scale("the adversary's epsilon", [adversary.epsilon], "linf", bounds)


def _out_of_range(record: Any) -> Iterator[str]:
    for field in fields(record):
        value, setting = getattr(record, field.name), setting_of(field)
        if is_dataclass(value):
            yield from _out_of_range(value)
        elif not setting.allows(value):
            allowed = f"one of {setting.range}" if setting.choices else f"in {setting.range}"
            yield f"{field.name} must be {allowed}, not {value}"


def table() -> str:
    """Every setting of a recipe as a Markdown table, for docs/training.md.

    >>> print(table().splitlines()[2])
    | `epochs` | 20 | [0, 100000] | passes over the images; 0 trains nothing |
    """
    return "\n".join(["| setting | default | range | meaning |", "|---|---|---|---|", *_rows(Recipe)])


def _rows(record: type[Any], prefix: str = "") -> Iterator[str]:
    for field in fields(record):
        setting = setting_of(field)
        default = "required" if field.default is MISSING else _spelled(field.default)
        meaning = f"{setting.help} ({setting.unit})" if setting.unit else setting.help
        yield f"| `{prefix}{field.name}` | {default} | {setting.range} | {meaning} |"
        if part := PARTS.get(field.name):
            yield from _rows(part, f"{field.name}.")


def _spelled(value: Any) -> str:
    """A value as a study file writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else f"{value}"


if __name__ == "__main__":
    print(table())
