"""The recipe as a user writes it: the fields of ``secateur.recipes.Recipe`` with their ranges."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from secateur.config.checks import gradient_norm
from secateur.recipes import PARTS, Recipe


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AugmentFields(_Fields):
    """Random transformations of the training images."""

    padding: int = Field(default=0, ge=0, le=64, description="pixels around the image before a random crop")
    rotation: float = Field(default=0.0, ge=0, le=180, description="degrees, uniform in ±")
    flip: bool = Field(default=False, description="mirror half of the images")


class AdversaryFields(_Fields):
    """Projected gradient descent inside the training loop."""

    epsilon: PositiveFloat = Field(description="budget, images lie in [0, 1]; 8/255 may be written so")
    step_size: PositiveFloat
    steps: PositiveInt = 7
    norm: Annotated[float, AfterValidator(gradient_norm)] = Field(
        default=float("inf"), description="2 or inf"
    )
    random_start: bool = True
    method: Literal["madry", "trades"] = Field(
        default="madry", description="madry: adversarial images alone; trades: clean loss and divergence"
    )
    beta: float = Field(default=6.0, ge=0, description="the weight of the divergence in trades")


class DistillationFields(_Fields):
    """Learning from the dense network that the pruned one came from."""

    weight: float = Field(default=0.9, ge=0, le=1, description="share of the teacher in the loss")
    temperature: PositiveFloat = 4.0


class PenaltyFields(_Fields):
    """Training towards sparse channels, before they are pruned."""

    kind: Literal["bn_scale", "group_lasso", "group_norm", "growing_reg"]
    strength: float = Field(default=1e-4, ge=0, description="its factor in the loss")
    growth: float = Field(
        default=1e-4, ge=0, description="growing_reg: what the smallest channels gain per epoch"
    )
    alpha: float = Field(
        default=4.0, ge=0, lt=64, description="group_norm: exponent of the smallest channels"
    )


class RecipeFields(_Fields):
    """How a network is trained; an ``adversary`` makes it adversarial training."""

    epochs: int = Field(default=20, ge=0, le=100_000)
    batch_size: int = Field(default=128, ge=2)
    learning_rate: PositiveFloat = 0.1
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    decay: float = Field(default=0.1, gt=0, le=1, description="factor per epoch of the exponential schedule")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augment: AugmentFields | None = None
    adversary: AdversaryFields | None = None
    checkpoint_every: PositiveInt = Field(default=5, description="epochs between checkpoints")
    select: Literal["clean", "robust"] = Field(
        default="clean", description="the accuracy that chooses the best epoch on validation"
    )
    recalibrate: bool = Field(
        default=False, description="first estimate batch normalisation's statistics anew; alone with epochs 0"
    )
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of the moving average that is kept; 0: off"
    )
    accumulate: PositiveInt = Field(default=1, description="parts of a batch whose gradients add up")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="of the forward pass")
    channels_last: bool = Field(default=False, description="memory format")
    distillation: DistillationFields | None = None
    penalty: PenaltyFields | None = None

    def recipe(self, *, base: Recipe | None = None) -> Recipe:
        """These settings as a recipe; with ``base``, only those that were given replace those of it."""
        chosen = self.model_fields_set if base else set(RecipeFields.model_fields)
        values: dict[str, Any] = {
            name: getattr(self, name) for name in RecipeFields.model_fields if name in chosen
        }
        for name, part in PARTS.items():
            if values.get(name) is not None:
                values[name] = part(**values[name].model_dump())
        return replace(base or Recipe(), **values)
