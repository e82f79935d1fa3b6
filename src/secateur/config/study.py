"""What a study is: the frozen settings of the whole grid."""

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PositiveInt,
    PrivateAttr,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from secateur.budgets import is_list
from secateur.config.checks import (
    distance_norm,
    known_attack,
    known_criterion,
    known_device,
    known_model,
    label,
    layer_rates,
    listed_sizes,
    plain_settings,
    unique,
)
from secateur.config.epsilons import Budgets, check_budgets
from secateur.config.images import Data, Normalisation, Settings
from secateur.config.recipe import RecipeFields
from secateur.config.yaml12 import Source
from secateur.hashing import canonical, derive_seed
from secateur.recipes import Recipe
from secateur.registry import ATTACKS, checkpoint, comes_with_weights, has_weights, takes_steps
from secateur.run_options import NAMES, RunOptions

Label = Annotated[str, AfterValidator(label)]
Sparsity = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Model(Settings):
    """A network of the study: its architecture, and the recipe or the weights that make it what it is."""

    arch: Annotated[str, AfterValidator(known_model)] = Field(
        description="a zoo name, torchvision:NAME, timm:NAME, shipped:NAME or robustbench:NAME"
    )
    settings: Annotated[dict[str, Any], AfterValidator(plain_settings)] = Field(
        default_factory=dict, description="arguments of the architecture, such as its width"
    )
    weights: str | None = Field(
        default=None,
        description="a .safetensors or weights-only .pt file; then nothing is trained by default",
    )
    recipe: RecipeFields | None = Field(default=None, description="how the network is trained")
    normalise: Normalisation | None = Field(
        default=None,
        description="mean and std of the images the network wants; in place of what it has by default",
    )
    robust: bool | None = Field(
        default=None, description="a tag for the figures; by default, whether the recipe is adversarial"
    )

    @model_validator(mode="after")
    def _normalised_once(self) -> Self:
        if self.normalise is not None and "normalise" in self.settings:
            raise ValueError("normalise stands in settings as well: leave one of them out")
        if self.normalise is not None and has_weights(self.arch):
            raise ValueError(f"{self.arch} takes images in [0, 1], as it was trained: leave normalise out")
        return self

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """The mean and deviation that were asked for."""
        return None if self.normalise is None else self.normalise.statistics


class Arm(RecipeFields):
    """One way to fine-tune: a recipe, and which models it is for."""

    inherit: bool = Field(
        default=False, description="settings not given here come from the model's own recipe"
    )
    models: Annotated[tuple[str, ...], AfterValidator(unique)] | None = Field(
        default=None, description="the labels of the models that get this arm; by default all"
    )


# Mypy takes no base class that is made at run time; the fields are read through ``Attack.options``.
_RunFields = Settings
if not TYPE_CHECKING:
    _RunFields = create_model(
        "_RunFields",
        __base__=Settings,
        **{
            part.name: (part.type, Field(default=part.default, **part.metadata))
            for part in fields(RunOptions)
            if part.metadata
        },
    )


class Attack(_RunFields):
    """An attack with its settings; settings that are not listed here go to the attack itself."""

    model_config = ConfigDict(frozen=True, extra="allow")

    attack: Annotated[str, AfterValidator(known_attack)] = Field(
        description="a registered name; by default the label"
    )
    norm: Annotated[float, AfterValidator(distance_norm)] | None = Field(
        default=None, description="0, 1, 2 or inf; by default the only one the attack knows"
    )
    steps: PositiveInt = Field(default=100, description="iterations per image, of the attacks that iterate")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        plain_settings(self.model_extra or {})
        listed_sizes((self.model_extra or {}).get("eps"), ATTACKS.entry(self.attack).facts.get("kind"))
        norms = ATTACKS.entry(self.attack).facts.get("norms", ())
        spelled = ", ".join(f"{value:g}" for value in norms)
        if "steps" in self.model_fields_set and not takes_steps(self.attack):
            raise ValueError(f"{self.attack} does not iterate: leave out steps")
        restarts = self.options.restarts
        if restarts > 1 and ATTACKS.entry(self.attack).facts.get("random") is False:
            raise ValueError(f"{self.attack} draws no random numbers to restart with: leave out restarts")
        if restarts > 1 and (self.model_extra or {}).get("random_start") is False:
            raise ValueError("without random_start there is nothing to restart with: leave out one of them")
        if self.norm is None and len(norms) > 1:
            raise ValueError(f"{self.attack} needs a norm, one of {spelled}")
        if self.norm is not None and norms and self.norm not in norms:
            raise ValueError(f"{self.attack} has no norm {self.norm:g}; it has {spelled}")
        return self

    @property
    def resolved_norm(self) -> float | None:
        """The norm, filled in where the attack knows only one; None for an attack without norms."""
        norms = ATTACKS.entry(self.attack).facts.get("norms", ())
        return self.norm if self.norm is not None or not norms else float(norms[0])

    @property
    def own(self) -> dict[str, Any]:
        """The attack's own settings: those of a study where nothing is said, sizes in rising order."""
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
    """Which controls are attacked beside the pruned networks."""

    dense: bool = True
    dense_tuned: bool = True
    untuned: bool = True


class Study(Settings):
    """A study: models × criteria × sparsities × fine-tuning arms × seeds × attacks."""

    name: Label = Field(description="names the run folder; changes no number")
    seed: Seed = Field(default=0, description="fixes the split of the data and the attacked images")
    data: Data
    models: dict[Label, Model] = Field(min_length=1)
    criteria: Annotated[
        tuple[Annotated[str, AfterValidator(known_criterion)], ...],
        AfterValidator(unique),
        Field(min_length=1),
    ] = ("l1",)
    sparsities: Annotated[tuple[Sparsity, ...], AfterValidator(unique), Field(min_length=1)] = (
        0.0,
        0.2,
        0.4,
        0.6,
        0.8,
    )
    pruning: Pruning = Pruning()
    finetune: dict[Label, Arm] = Field(
        default_factory=dict, description="arms by label; untuned is a control"
    )
    controls: Controls = Controls()
    seeds: Annotated[tuple[Seed, ...], AfterValidator(unique), Field(min_length=1)] = (0,)
    attacks: dict[Label, Attack] = Field(default_factory=dict)
    images: PositiveInt | None = Field(default=200, description="test images attacked; null for all of them")
    batch_size: PositiveInt = Field(default=256, description="images per attack batch; changes no number")
    epsilons: Budgets = ()
    threads: int = Field(default=1, ge=1, le=4096, description="threads of each worker process")
    device: Annotated[str, AfterValidator(known_device)] = Field(
        default="cpu", description="where networks are trained, judged and attacked, such as cuda"
    )

    _source: Source | None = PrivateAttr(default=None)

    @field_validator("epsilons")
    @classmethod
    def _of_a_norm(cls, given: Any, known: ValidationInfo) -> Any:
        attacks: dict[str, Attack] = known.data.get("attacks", {})
        kinds = [
            (each.resolved_norm, ATTACKS.entry(each.attack).facts.get("kind")) for each in attacks.values()
        ]
        check_budgets(given, kinds)
        return given

    def where(self, key: str) -> str:
        """The place of a setting in the study file, ``file:line``, for errors found later.

        ``key`` is a dotted path such as ``attacks.ddn.steps``; an absent key gives the line of the nearest
        key above it.
        """
        return self._source.place(key) if self._source else self.name

    @property
    def split_seed(self) -> int:
        """The seed that splits the data and picks the attacked images, the same for every cell."""
        return derive_seed("data", self.seed)

    def recipe(self, model: str) -> Recipe:
        """The recipe that trains the model with this label; of 0 epochs when it comes with weights only.

        Published, shipped and plug-in networks do (``robustbench:NAME``, ``shipped:NAME``).
        """
        settings = self.models[model]
        if settings.recipe is not None:
            return settings.recipe.recipe()
        trained = settings.weights or has_weights(settings.arch) or comes_with_weights(settings.arch)
        return Recipe(epochs=0) if trained else Recipe()

    def arms(self, model: str) -> dict[str, Recipe]:
        """The fine-tuning recipes of the model with this label, by arm."""
        base = self.recipe(model)
        return {
            name: arm.recipe(base=base if arm.inherit else None)
            for name, arm in self.finetune.items()
            if arm.models is None or model in arm.models
        }

    def robust(self, model: str) -> bool:
        """Whether the model with this label is tagged as trained for robustness."""
        chosen = self.models[model]
        if chosen.robust is not None:
            return chosen.robust
        if chosen.recipe is None and not chosen.weights and has_weights(chosen.arch):
            return bool(checkpoint(chosen.arch).facts["robust"])
        return self.recipe(model).adversary is not None

    def resolved(self) -> dict[str, Any]:
        """Every setting with its default filled in, as plain JSON data."""
        plain: dict[str, Any] = canonical(self.model_dump())
        for name, arm in self.finetune.items():
            if arm.inherit:  # what is not given must stay open, or it would no longer be inherited
                plain["finetune"][name] = canonical(arm.model_dump(exclude_unset=True))
        for name, attack in self.attacks.items():
            plain["attacks"][name] |= canonical(attack.own)
            if not takes_steps(attack.attack):
                del plain["attacks"][name]["steps"]
        return plain
