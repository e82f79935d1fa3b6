"""The shape of ``study.json``: all is checked before anything is used, because others may have made it."""

from operator import attrgetter
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from secateur.config import Role, Stage
from secateur.store.record import Id
from secateur.store.science import Count, Damaged, Fields, Real, Share

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Label = Annotated[str, Field(min_length=1)]
Budget = Annotated[float, Field(ge=0, le=1e30)]


class Axes(Fields):
    """Where a cell stands in the grid; see :class:`secateur.config.Cell`."""

    model: Label
    seed: Whole
    criterion: Label | None
    sparsity: Share | None
    arm: Label | None
    attack: Label | None
    # Left out of all cells but the steps of a schedule; no value that is given is below 0.
    round: Count = -1
    towards: Share = -1.0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.criterion is not None and self.sparsity is None:
            raise ValueError("a criterion needs a sparsity")
        if (self.round < 0) != (self.towards < 0):
            raise ValueError("a round needs its number and the sparsity that it is towards")
        return self


class AttackSettings(Fields):
    """What is read of the settings of an attack without its code."""

    attack: str
    images: Count | None = None
    steps: Count = 1


class Adversary(Fields):
    """What is read of the adversary of a recipe."""

    steps: Count


class RecipeSettings(Fields):
    """What is read of a recipe."""

    epochs: Count = 0
    adversary: Adversary | None = None


class TrainSettings(Fields):
    """What is read of the settings of a training."""

    recipe: RecipeSettings = RecipeSettings()


SETTINGS: dict[Stage, type[Fields]] = {
    "train": TrainSettings,
    "tune": TrainSettings,
    "attack": AttackSettings,
}


class CellShape(Fields):
    """A cell; see :class:`secateur.config.Cell`."""

    id: Id
    stage: Stage
    parent: Id | None
    axes: Axes
    role: Role
    settings: dict[str, Any]

    @model_validator(mode="after")
    def _of_its_stage(self) -> Self:
        if (self.parent is None) != (self.stage == "train"):
            raise ValueError("a cell has a parent unless it is a training")
        if (self.stage == "attack") != (self.axes.attack is not None):
            raise ValueError("axes.attack: it names an attack where there is one")
        try:
            SETTINGS.get(self.stage, Fields).from_json(self.settings)
        except Damaged as damaged:
            raise ValueError(f"settings.{damaged}") from None
        return self


class FactsShape(Fields):
    """What the data contained; older folders lack some of it."""

    fingerprint: str = ""
    train: Count = 0
    validation: Count = 0
    test: Count = 0
    shape: Annotated[list[Count], Field(max_length=8)] = Field(default_factory=list)
    classes: Count = 0
    weights: dict[str, str] = Field(default_factory=dict)
    bounds: Annotated[list[Real], Field(min_length=2, max_length=2)] = Field(
        default_factory=lambda: [0.0, 1.0]
    )
    levels: Annotated[int, Field(ge=2, le=65_536)] | None = None


class ConfigShape(Fields):
    """The sections of the settings that are read without being checked as a study of this version."""

    data: dict[str, Any] = Field(default_factory=dict)
    models: dict[str, Any] = Field(default_factory=dict)
    attacks: dict[str, Any] = Field(default_factory=dict)
    finetune: dict[str, Any] = Field(default_factory=dict)
    pruning: dict[str, Any] = Field(default_factory=dict)
    epsilons: list[Budget] | dict[str, list[Budget]] | None = None


class Labels(Fields):
    """Which models the study calls adversarially trained."""

    robust: dict[str, bool] = Field(default_factory=dict)


class PlugInShape(Fields):
    """A plug-in that the study needs."""

    file: str
    version: str
    names: list[list[str]]


class StudyShape(Fields):
    """The whole file."""

    name: str
    study_hash: str
    config: ConfigShape
    facts: FactsShape
    science: dict[str, Any]
    limited: Count | None
    labels: Labels = Labels()
    plugins: list[PlugInShape] = Field(default_factory=list)
    cells: list[CellShape]

    # Programs walk from a cell to its ancestors: each must be there, and no walk may go round in a circle.
    @model_validator(mode="after")
    def _a_tree(self) -> Self:
        known: dict[str, CellShape] = {}
        for cell in self.cells:
            if cell.id in known:
                raise ValueError(f"the cell {cell.id} is there twice")
            if cell.parent is not None:
                above = known.get(cell.parent)
                if above is None or above.stage == "attack":
                    raise ValueError(f"the parent of cell {cell.id} is not above it, or leaves no network")
                if cell.stage == "attack" and not _same_network(cell.axes, above.axes):
                    raise ValueError(f"the attack {cell.id} is on another network than its parent")
            known[cell.id] = cell
        return self


_POINT = attrgetter("model", "seed", "criterion", "sparsity", "arm", "round", "towards")


def _same_network(attack: Axes, network: Axes) -> bool:
    return _POINT(attack) == _POINT(network)
