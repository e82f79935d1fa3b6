"""The numbers of a record, typed by stage: what the stages measure and every report reads.

A new number is one line in one of the classes below, ``None`` where older records lack it. The stage that
measures it sets it, the table or figure that shows it reads it, and nothing in between has to know.
"""

from collections.abc import Mapping
from itertools import compress
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from secateur.config import Stage

NormKey = Literal["l0", "l0_pixels", "l1", "l2", "linf"]
_ALWAYS = ("l0", "l1", "l2", "linf")
Share = Annotated[float, Field(ge=0, le=1)]
# Of a size with which sums and squares can be computed.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Real = Annotated[float, Field(ge=-1e30, le=1e30)]
Distances = dict[str, list[Real | None]]


# Not a UserError: the store turns it into a damaged cell, which is computed again.
class Damaged(Exception):
    """A record or artefact is not what was committed; the message says how, and names the key.

    >>> try:
    ...     Accuracy.from_json({"test": "high"})
    ... except Damaged as error:
    ...     "test" in str(error)
    True
    """


class Fields(BaseModel):
    """Named, typed values of a JSON object, immutable.

    Reading is strict: ``"1"`` and ``true`` are not numbers. A field that was not given has its default, and
    is left out of :meth:`to_json`: an older record is written again as it was. Unknown keys are kept.

    >>> Fields.from_json({"unknown": 1}).to_json()
    {'unknown': 1}
    """

    # Strict: a record is written by this program, so a value of another type is damage, not a spelling.

    model_config = ConfigDict(
        frozen=True, strict=True, extra="allow", allow_inf_nan=False, hide_input_in_errors=True
    )

    @classmethod
    def from_json(cls, data: object) -> Self:
        """The fields of a JSON object.

        Raises:
            Damaged: a key is missing or holds something else; the message names it.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as problem:
            raise Damaged(_first(problem)) from None

    def to_json(self) -> dict[str, Any]:
        """The fields that were given, as plain data."""
        return self.model_dump(exclude_unset=True)

    def says(self, field: str) -> bool:
        """Whether the field was given; older records lack some, which is not the same as ``null``."""
        return field in self.model_fields_set


class Accuracy(Fields):
    """Shares of correct images in [0, 1] per part of the data; pruned networks have ``test`` alone.

    >>> Accuracy.from_json({"test": 1.5})
    Traceback (most recent call last):
    secateur.store.science.Damaged: test: input should be less than or equal to 1
    """

    test: Share
    train: Share | None = None
    validation: Share | None = None


class NetworkScience(Fields):
    """What is measured of the network of a train, prune or tune cell.

    Attributes:
        parameters: their number.
        macs: multiply-adds of one image.
        accuracy: on the parts of the data.
        collapsed: the 95 % interval of the test accuracy holds 1/classes.
        weights_hash: sha256 of the weights; equal hashes are one training.
        parameters_nonzero: parameters that are not zero, of a network with masked weights.
        notes: remarks for people.

    >>> science = NetworkScience.from_json(
    ...     {"parameters": 9, "macs": 9, "accuracy": {"test": 1}, "collapsed": False, "weights_hash": "ab"}
    ... )
    >>> science.accuracy.test, science.parameters_nonzero, science.says("parameters_nonzero")
    (1.0, None, False)
    """

    parameters: Count
    macs: Count
    accuracy: Accuracy
    collapsed: bool
    weights_hash: str
    parameters_nonzero: Count | None = None
    notes: list[str] = []


class TuneScience(NetworkScience):
    """A fine-tuned network; ``history`` has an entry per epoch, ``best_epoch`` is the one that was kept.

    ``train_sample`` is the number of training images that ``accuracy.train`` is of, where it is not of all.
    """

    best_epoch: int | None = None
    train_sample: Count | None = None
    history: list[dict[str, Any]] = []


class TrainScience(TuneScience):
    """A trained or given network; ``robust``: whether the study calls it adversarially trained."""

    robust: bool = False


class Proof(Fields):
    """Largest differences between the pruned network and the masked dense one; None for masked weights.

    >>> Proof(max_error=1e-15).changed_by_design
    []
    """

    max_error: Real | None
    gradient_error: Real | None = None
    changed_by_design: list[str] = []


class PruneScience(NetworkScience):
    """A pruned network beside the dense one: sparsities are fractions of the dense network's channels."""

    parameters_dense: Count
    macs_dense: Count
    sparsity_requested: Share
    sparsity_achieved: Share
    groups: Count
    proof: Proof


class Check(Fields):
    """One automatic check of an attack's result; ``severity`` is "warn" or "fail".

    >>> Check(id="F09", passed=True, severity="warn", sentence="every image has an example").passed
    True
    """

    id: str
    passed: bool
    severity: str
    sentence: str


class Size(Fields):
    """The images, bool [n], for which an attack of fixed size found an example at ``eps`` or below.

    >>> Size(eps=0.5, found=[True, False]).to_json()
    {'eps': 0.5, 'found': [True, False]}
    """

    eps: Real
    found: list[bool]


class AttackScience(Fields):
    """One attack on one network, in the layout of AttackBench with the outcome added.

    Lists have one entry per image [n]. Distances are 0 where the network is wrong without an attack, and None
    where nothing was found. The outcome decides, never the distance: some attacks return the clean image,
    at distance 0, when they fail.

    Attributes:
        hashes: sha512 of every image.
        outcome: what happened to it.
        distances: of the example that counts, by norm (``l0``, ``l1``, ``l2``, ``linf``), and ``l0_pixels``
            where pixels are counted.
        norm: the norm that the attack minimises or is bound by.
        grade: how far the result can be trusted, A to C.
        checks: the checks behind the grade.
        targeted: an example counts when it reaches a target class.
        kind: "minimum-norm" or "fixed-eps"; None in records that do not say it.
        settings: of the attack, defaults included.
        sizes: what fell at every size of an attack of fixed size; None of others.
        levels: grey levels of the images, None where they have none; see :meth:`says`.
        bounds: lowest and highest value of a pixel.
    """

    hashes: list[str]
    outcome: list[Literal["found", "already_wrong", "not_found"]]
    distances: Distances
    norm: NormKey
    grade: Literal["A", "B", "C", "X"]
    checks: list[Check]
    targeted: bool
    accuracy: Share
    ori_success: list[bool]
    adv_success: list[bool]
    ASR: Share
    num_forwards: list[Real]
    num_backwards: list[Real]
    attack: str | None = None
    kind: str | None = None
    settings: dict[str, Any] = {}
    seed: int | None = None
    n: Count | None = None
    best_optim_distances: Distances = {}
    box_failures: list[bool] = []
    batch_failures: list[bool] = []
    adv_preds: list[int] = []
    targets: list[int] | None = None
    sizes: list[Size] | None = None
    attempts: int | None = None
    start: list[list[str]] | None = None
    search: dict[str, Any] = {}
    labels: list[int] | None = None
    bounds: Annotated[list[Real], Field(min_length=2, max_length=2)] | None = None
    levels: Annotated[int, Field(ge=2, le=65_536)] | None = None
    fingerprint: str | None = None
    weights_hash: str | None = None
    summary: dict[str, Any] = {}
    joint: dict[str, Any] | None = None
    checks_cost: float | None = None

    def pixels(self) -> dict[str, Any]:
        """``levels`` and ``bounds`` of the images, as far as the record has them."""
        return {name: getattr(self, name) for name in ("levels", "bounds") if self.says(name)}

    # Reports index these lists together: one of another length would shift every image after a gap.
    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        n = len(self.outcome)
        columns: dict[str, list[Any]] = {
            **{name: getattr(self, name) for name in ("hashes", "num_forwards", "num_backwards")},
            **{f"distances.{norm}": self.distances.get(norm, []) for norm in (*_ALWAYS, self.norm)},
            **{f"sizes at {size.eps:g}": size.found for size in self.sizes or ()},
        }
        for name, column in columns.items():
            if len(column) != n:
                raise ValueError(f"{name} has {len(column)} entries for {n} images")
        found = [outcome == "found" for outcome in self.outcome]
        for norm, column in self.distances.items():
            values = list(compress(column, found))
            if None in values or min(filter(None, values), default=0.0) < 0:
                raise ValueError(f"distances.{norm} lacks the distance of an example that was found")
        return self


Science = TrainScience | TuneScience | PruneScience | AttackScience
SCIENCE: Mapping[Stage, type[Science]] = {
    "train": TrainScience,
    "prune": PruneScience,
    "tune": TuneScience,
    "attack": AttackScience,
}


def _first(problem: ValidationError) -> str:
    first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
    key = ".".join(str(step) for step in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{key}: {said[:1].lower()}{said[1:]}" if key else said
