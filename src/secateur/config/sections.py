"""The sections of a study file: data, models, attacks, pruning and controls."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from secateur.budgets import L0_PIXELS, is_list, norm_of
from secateur.config.recipe import RecipeFields, derived
from secateur.config.values import (
    Settings,
    Sparsity,
    distance_norm,
    image_size,
    known_attack,
    known_dataset,
    known_model,
    layer_rates,
    listed_sizes,
    one_or_more,
    plain_settings,
)
from secateur.registry import ATTACKS, has_weights, takes_steps
from secateur.run_options import NAMES, RunOptions

Fraction = Annotated[float, Field(gt=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Number = TypeVar("Number")
NonEmpty = Annotated[tuple[Number, ...], Field(min_length=1)]


class Data(Settings):
    """Where the images come from and how they are split into train, validation and test."""

    spec: Annotated[str, AfterValidator(known_dataset)] = Field(
        description="digits, idx:DIR, folder:DIR, ...; relative paths start at the working directory"
    )
    fractions: tuple[Fraction, Fraction, Fraction] = Field(
        default=(0.7, 0.1, 0.2), description="train, validation, test; official test parts stay whole"
    )
    sizes: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        default=None,
        description="train, validation and test images kept of these parts, by class; by default all",
    )

    resize: Annotated[Any, AfterValidator(image_size)] = Field(
        default=None,
        description="scale the images: the side of a square, or [height, width]",
        json_schema_extra={"type": ["integer", "array", "null"]},
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(sum(self.fractions) - 1) > 1e-9:
            raise ValueError(f"the fractions sum to {sum(self.fractions):g}, not to 1")
        return self


class Normalisation(Settings):
    """What a network does to images in [0, 1]: subtract the mean, divide by the standard deviation.

    One number for each channel, or a single one for all.
    """

    mean: Annotated[
        NonEmpty[Finite],
        BeforeValidator(one_or_more, json_schema_input_type=NonEmpty[Finite] | Finite),
    ]
    std: Annotated[
        NonEmpty[PositiveFloat],
        BeforeValidator(one_or_more, json_schema_input_type=NonEmpty[PositiveFloat] | PositiveFloat),
    ]

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}")
        return self

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation, equally many values of each."""
        count = max(len(self.mean), len(self.std))
        mean, std = (values * count if len(values) == 1 else values for values in (self.mean, self.std))
        return mean, std


class Model(Settings):
    """A network of the study: its architecture, and the recipe or the weights that make it what it is."""

    arch: Annotated[str, AfterValidator(known_model)] = Field(
        description="a zoo name, hf:NAME, torchvision:NAME, timm:NAME, shipped:NAME or robustbench:NAME, or "
        "FILE.py:FUNCTION of a file that --plugin names"
    )
    settings: Annotated[dict[str, Any], AfterValidator(plain_settings)] = Field(
        default_factory=dict, description="arguments of the architecture, such as its width"
    )
    weights: str | None = Field(
        default=None,
        description="a .safetensors or weights-only .pt file, or a folder that prune wrote; then nothing is "
        "trained by default",
    )
    recipe: RecipeFields | None = Field(default=None, description="how the network is trained")
    normalise: Normalisation | None = Field(
        default=None,
        description="mean and std that the network subtracts and divides by, instead of its default",
    )
    robust: bool | None = Field(
        default=None, description="a tag for the figures; by default, whether the recipe is adversarial"
    )

    @model_validator(mode="after")
    def _normalised_once(self) -> Self:
        if self.normalise is not None and "normalise" in self.settings:
            raise ValueError("normalise is given in settings as well: remove one of them")
        if self.normalise is not None and has_weights(self.arch):
            raise ValueError(f"{self.arch} takes images in [0, 1], as it was trained: remove normalise")
        return self

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """The mean and standard deviation given in the study."""
        return None if self.normalise is None else self.normalise.statistics


# Derived at run time, which mypy does not follow; the fields are read through ``Attack.options``.
if TYPE_CHECKING:
    _RunFields = Settings
else:
    _RunFields = derived(RunOptions, Settings)


class Attack(_RunFields):
    """An attack with its settings; settings that are not listed here go to the attack itself."""

    model_config = ConfigDict(frozen=True, extra="allow")

    attack: Annotated[str, AfterValidator(known_attack)] = Field(
        description="a registered name; by default the label"
    )
    # One type for numbers and the word: a union has no single sentence for what is wrong with a value.
    norm: Annotated[Any, AfterValidator(distance_norm)] = Field(
        default=None,
        description="0, 1, 2, inf, or L0-pixels, which counts pixels; by default the attack's only one",
        json_schema_extra={"type": ["number", "string", "null"]},
    )
    steps: PositiveInt = Field(default=100, description="iterations per image, of the attacks that iterate")

    # The attack's own settings are checked by its rules, in ``contradictions``, which report them by name.
    @model_validator(mode="after")
    def _possible(self) -> Self:
        plain_settings(self.model_extra or {})
        listed_sizes((self.model_extra or {}).get("eps"), ATTACKS.entry(self.attack).facts.get("kind"))
        norms = ATTACKS.entry(self.attack).facts.get("norms", ())
        spelled = ", ".join(f"{value:g}" for value in norms)
        if "steps" in self.model_fields_set and not takes_steps(self.attack):
            raise ValueError(f"{self.attack} does not iterate: remove steps")
        restarts = self.options.restarts
        if restarts > 1 and ATTACKS.entry(self.attack).facts.get("random") is False:
            raise ValueError(f"{self.attack} draws no random numbers to restart with: remove restarts")
        if restarts > 1 and (self.model_extra or {}).get("random_start") is False:
            raise ValueError("without random_start there is nothing to restart with: remove one of them")
        # Pixels are counted where the study says so: an attack that knows L0 besides has one norm by default.
        if self.norm is None and len([value for value in norms if value != L0_PIXELS]) > 1:
            raise ValueError(f"{self.attack} needs a norm, one of {spelled}")
        if self.norm is not None and norms and norm_of(self.norm) not in norms:
            raise ValueError(f"{self.attack} has no norm {norm_of(self.norm):g}; it has {spelled}")
        return self

    @property
    def resolved_norm(self) -> float | str | None:
        """The norm, filled in if the attack has only one; None for an attack without norms."""
        norms = ATTACKS.entry(self.attack).facts.get("norms", ())
        given: float | str | None = self.norm
        return distance_norm(norms[0]) if given is None and norms else given

    @property
    def own(self) -> dict[str, Any]:
        """The attack's own settings, with its defaults for studies; listed sizes in rising order."""
        given = {**ATTACKS.entry(self.attack).facts.get("study", {}), **(self.model_extra or {})}
        return {
            key: sorted(value) if key == "eps" and is_list(value) else value for key, value in given.items()
        }

    @property
    def options(self) -> RunOptions:
        """How the attack is run."""
        return RunOptions(**{name: getattr(self, name) for name in NAMES})


class Pruning(Settings):
    """How channels are chosen, and in how many rounds."""

    schedule: Literal["one_shot", "iterative"] = Field(
        default="one_shot", description="iterative: prune and fine-tune in rounds, each with the arm's recipe"
    )
    rounds: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        default=None, description="of the iterative schedule; the controls are fine-tuned as often"
    )
    spacing: Literal["linear", "geometric"] | None = Field(
        default=None,
        description="a round removes the same number (the default), or the same share of the rest",
    )
    scope: Annotated[str, Field(pattern="^(local|global)$")] = Field(
        default="local", description="local: every group loses the fraction; global: channels compete"
    )
    keep: tuple[str, ...] = Field(default=(), description="layers that stay whole")
    selection: Literal["independent", "greedy"] = Field(
        default="independent", description="greedy: scored without the input channels that are gone already"
    )
    reduction: Literal["mean", "sum", "max", "first", "shortcut"] = Field(
        default="mean",
        description="how the scores of coupled layers become one; shortcut decides for its block",
    )
    min_channels: PositiveInt = Field(default=1, description="what every group keeps at least")
    max_sparsity: Sparsity | None = Field(default=None, description="the most that any group loses")
    round_to: PositiveInt = Field(default=1, description="widths are rounded up to a multiple of this")
    # One type for both spellings, because a union has no single sentence for what is wrong with a value.
    rates: Annotated[Any, AfterValidator(layer_rates)] = Field(
        default=None,
        description="sparsity by layer, or published rates by name, such as li2017:resnet56-a",
        json_schema_extra={"type": ["string", "object", "null"]},
    )

    @model_validator(mode="after")
    def _scheduled(self) -> Self:
        if self.schedule == "iterative" and self.rounds is None:
            raise ValueError("schedule: iterative needs rounds, such as rounds: 3")
        if self.schedule == "one_shot" and (self.rounds is not None or self.spacing is not None):
            raise ValueError("rounds and spacing belong to schedule: iterative")
        return self


class Controls(Settings):
    """Which controls are attacked beside the pruned networks; each is on by default."""

    dense: bool = True
    dense_tuned: bool = True
    untuned: bool = True
