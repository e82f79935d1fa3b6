"""Transferability: run the adversarial examples of each network of a study against every other network."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur import models
from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.attacks.runner.run import run
from secateur.config import Cell, Study, study_of
from secateur.data import Dataset, random_stratified_indices
from secateur.errors import UserError
from secateur.hashing import canonical, derive_seed
from secateur.stages import attacked_images, network, refuse_other_data
from secateur.stats import wilson
from secateur.store import Store


@dataclass(frozen=True)
class NetworkFilter:
    """Which networks of a study take part; None means all. Dense networks of a chosen model and seed do too.

    >>> NetworkFilter(criteria=("l1",), sparsities=(0.5,)).seeds is None
    True
    """

    models: Collection[str] | None = None
    criteria: Collection[str] | None = None
    sparsities: Collection[float] | None = None
    arms: Collection[str] | None = None
    seeds: Collection[int] | None = None

    def __contains__(self, cell: Cell) -> bool:
        axes = cell.axes
        asked = (
            (self.models, axes["model"]),
            (self.criteria, axes["criterion"]),
            (self.sparsities, axes["sparsity"]),
            (self.arms, axes["arm"]),
            (self.seeds, axes["seed"]),
        )
        dense = cell.stage == "train"
        return all(
            wanted is None or value is None or value in wanted or (dense and value in ("none", 0))
            for wanted, value in asked
        )


@dataclass(frozen=True, eq=False)
class Transfer:
    """How many adversarial examples of one network (row) also fool another (column).

    ``eligible`` [S][S] counts images with an example on the row network that the column network classifies
    correctly without the perturbation; ``fooled`` [S][S] counts those whose example it misclassifies.
    Examples are minimum-norm perturbations of the row network times ``scale``, clipped to the image bounds.

    >>> result = Transfer("demo", "ddn", "L2", {}, 1.0, 100, (), (), (), ())
    >>> result.to_json()["share"]
    []
    """

    study: str
    attack: str
    norm: str
    settings: Mapping[str, Any]
    scale: float
    images: int
    networks: tuple[Cell, ...]
    accuracy: tuple[float, ...]
    eligible: tuple[tuple[int, ...], ...]
    fooled: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data: counts, shares (null where no image is eligible) and their Wilson intervals."""
        counts = [list(zip(*pair, strict=True)) for pair in zip(self.fooled, self.eligible, strict=True)]
        bounds = [[wilson(k, n) if n else (None, None) for k, n in row] for row in counts]
        return {
            "study": self.study,
            "attack": self.attack,
            "norm": self.norm,
            "settings": canonical(self.settings),
            "scale": self.scale,
            "images": self.images,
            "networks": [
                {"cell": cell.id, "label": network_label(cell), "axes": dict(cell.axes), "accuracy": accuracy}
                for cell, accuracy in zip(self.networks, self.accuracy, strict=True)
            ],
            "eligible": [list(row) for row in self.eligible],
            "fooled": [list(row) for row in self.fooled],
            "share": [[k / n if n else None for k, n in row] for row in counts],
            "low": [[low for low, _ in row] for row in bounds],
            "high": [[high for _, high in row] for row in bounds],
        }


def transfer(
    folder: Path | str,
    attack: str = "ddn",
    *,
    where: NetworkFilter | None = None,
    scale: float = 1.0,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Transfer:
    """Attack the finished networks of a run folder, and evaluate each one's examples on all of them.

    Args:
        folder: a run folder; unfinished networks are left out.
        attack: a registered attack. Minimum-norm examples lie just beyond the decision boundary of their own
            network and transfer less than examples of a fixed budget: compare like with like.
        where: which networks take part.
        scale: factor on every perturbation; above 1 the examples lie deeper beyond the boundary.
        limit: attack this many of the study's images only, stratified by class.
        on_progress: called with (networks done, networks).
        settings: of the attack, as its signature names them.

    Raises:
        UserError: no study in the folder, a name or number in ``where`` that none of its networks has, fewer
            than two finished networks, or as for ``attacks.run``.

    >>> transfer("runs/none", scale=0)
    Traceback (most recent call last):
    secateur.errors.UserError: the scale of a perturbation must be positive, not 0
    """
    if not 0 < scale < math.inf:
        raise UserError(f"the scale of a perturbation must be positive, not {scale:g}")
    store = Store.open(folder)
    study = study_of(store.study)
    where = where or NetworkFilter()
    _refuse_unknown(store, where)
    cells = tuple(_finished(store, where))
    if len(cells) < 2:
        raise UserError(
            f"{folder} has {len(cells)} finished networks of that kind; transfer needs at least two",
            hint="select more models, criteria, sparsities, arms or seeds, or finish the run",
        )
    refuse_other_data(study, store)
    images = _images(study, limit)
    found: list[AttackResult] = []
    for done, cell in enumerate(cells):
        model = network(study, cell.id, store)
        seed = derive_seed("transfer", cell.id)
        found.append(run(model, images, attack, batch_size=study.batch_size, seed=seed, **settings))
        if on_progress:
            on_progress(done + 1, len(cells))
    # Every network is rebuilt from the store when it is needed: together they may not fit in memory.
    examples = [_scaled(images, result.adv, scale) for result in found]
    columns = [_column(network(study, cell.id, store), images, found, examples) for cell in cells]
    return Transfer(
        study=study.name,
        attack=attack,
        norm=found[0].norm_key,
        settings=found[0].settings,
        scale=scale,
        images=images.n,
        networks=cells,
        accuracy=tuple(result.accuracy for result in found),
        eligible=tuple(zip(*(eligible for eligible, _ in columns), strict=True)),
        fooled=tuple(zip(*(fooled for _, fooled in columns), strict=True)),
    )


def network_label(cell: Cell) -> str:
    """Model and seed of a network, then criterion, sparsity and fine-tuning, if any.

    >>> axes = {"model": "plain", "seed": 0, "criterion": "l1", "sparsity": 0.5, "arm": "none"}
    >>> network_label(Cell("0" * 32, "prune", "1" * 32, axes, "untuned", {}))
    'plain/0, l1 0.5'
    """
    axes = cell.axes
    words = [f"{axes['model']}/{axes['seed']}"]
    words += [f"{axes['criterion']} {axes['sparsity']:g}"] if axes["criterion"] else []
    words += [str(axes["arm"])] if axes["arm"] != "none" else []
    return ", ".join(words)


def _refuse_unknown(store: Store, where: NetworkFilter) -> None:
    """Refuse what would select nothing: the dense networks alone would take part, and nobody be told."""
    asked = {
        "model": where.models,
        "criterion": where.criteria,
        "sparsity": where.sparsities,
        "arm": where.arms,
        "seed": where.seeds,
    }
    for axis, wanted in asked.items():
        known = {cell.axes[axis] for cell in store.cells} - {None}
        for value in wanted or ():
            if value not in known:
                names = ", ".join(map(str, sorted(known)))
                raise UserError(f"no network of the study has {axis} {value}", hint=f"it has {names}")


def _finished(store: Store, where: NetworkFilter) -> Iterator[Cell]:
    for cell in store.cells:
        if cell.stage == "attack" or cell.role == "round" or cell not in where:
            continue
        if store.committed(cell.id):
            yield cell


def _images(study: Study, limit: int | None) -> Dataset:
    images = attacked_images(study)
    if limit is None:
        return images
    if not 1 <= limit <= images.n:
        raise UserError(f"{limit} images requested, but the study attacks {images.n}")
    generator = torch.Generator().manual_seed(derive_seed(study.seed, "transfer-images"))
    return images.take(random_stratified_indices(images.y, limit, generator=generator))


def _scaled(images: Dataset, adv: Tensor, scale: float) -> Tensor:
    low, high = images.bounds
    return (images.x + scale * (adv - images.x)).clamp(low, high) if scale != 1 else adv


def _column(
    model: nn.Module, images: Dataset, found: list[AttackResult], examples: list[Tensor]
) -> tuple[list[int], list[int]]:
    """For one target network: per source, the eligible examples, and how many of them fool it."""
    right = models.predict(model, images.x) == images.y
    counted = [result.where(Outcome.FOUND) & right for result in found]
    fooled = [
        counts & (models.predict(model, adv) != images.y)
        for counts, adv in zip(counted, examples, strict=True)
    ]
    return [int(counts.sum()) for counts in counted], [int(hits.sum()) for hits in fooled]
