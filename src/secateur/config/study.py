"""What a study is: the frozen settings of the whole grid, and their JSON schema."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, PositiveInt, PrivateAttr, ValidationInfo, field_validator

from secateur.config.epsilons import Budgets, check_budgets
from secateur.config.recipe import Arm
from secateur.config.sections import Attack, Controls, Data, Model, Pruning
from secateur.config.values import Label, Seed, Settings, Sparsity, known_criterion, known_device, unique
from secateur.config.yaml12 import Source
from secateur.hashing import canonical, derive_seed
from secateur.recipes import Recipe
from secateur.registry import (
    ATTACKS,
    CRITERIA,
    MODELS,
    checkpoint,
    comes_with_weights,
    has_weights,
    takes_steps,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What a study file may write where a number is meant; see ``yaml12``.
SPELLED_NUMBER = {"type": "string", "pattern": r"^(-?\.?inf|-?\d+(\.\d+)?/\d+(\.\d+)?)$"}


class Study(Settings):
    """A study: models × criteria × sparsities × fine-tuning arms × seeds × attacks.

    >>> from secateur.config import parse_study
    >>> study = parse_study("{name: small, data: digits, models: {plain: resnet18}}")
    >>> study.recipe("plain").epochs, study.images
    (20, 200)
    """

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
        default="cpu", description="where networks are trained, evaluated and attacked, such as cuda"
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
        """The location of a setting in the study file, ``file:line``, for errors found later.

        ``key`` is a dotted path such as ``attacks.ddn.steps``; an absent key gives the line of the nearest
        key above it.
        """
        return self._source.location(key) if self._source else self.name

    # Not per cell: all networks of a study must be trained and attacked on the same parts of the data.
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
            if arm.inherit:  # a default that is filled in would no longer be inherited
                plain["finetune"][name] = canonical(arm.model_dump(exclude_unset=True))
        for name, attack in self.attacks.items():
            plain["attacks"][name] |= canonical(attack.own)
            if not takes_steps(attack.attack):
                del plain["attacks"][name]["steps"]
        return plain


def study_schema() -> dict[str, Any]:
    """The JSON schema of a study file, for editors; registered names are suggestions.

    >>> study_schema()["required"]
    ['name', 'data', 'models']
    """
    schema = _with_spelled_numbers(Study.model_json_schema())
    definitions, properties = schema["$defs"], schema["properties"]
    definitions["Model"]["properties"]["arch"]["examples"] = MODELS.names()
    definitions["Attack"]["properties"]["attack"]["examples"] = ATTACKS.names()
    properties["criteria"]["items"]["examples"] = CRITERIA.names()
    # The short forms: ``data: digits``, ``plain: resnet18``, and ``ddn:`` without settings.
    properties["data"] = {"anyOf": [properties["data"], {"type": "string"}]}
    definitions["Attack"]["required"] = []
    for field, short in (("models", "string"), ("attacks", "null")):
        values = properties[field]["additionalProperties"]
        properties[field]["additionalProperties"] = {"anyOf": [values, {"type": short}]}
    schema["patternProperties"] = {"^x-": {"description": "ignored; for YAML anchors"}}
    plain: dict[str, Any] = canonical({"$schema": DIALECT, **schema, "title": "A secateur study"})
    return plain


def _with_spelled_numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_spelled_numbers(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _with_spelled_numbers(item) for key, item in value.items()}
    if changed.get("type") != "number":
        return changed
    about = {key: changed.pop(key) for key in ("description", "title", "default") if key in changed}
    return {**about, "anyOf": [changed, SPELLED_NUMBER]}
