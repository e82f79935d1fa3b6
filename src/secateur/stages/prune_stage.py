"""The prune stage: remove channels, or mask single weights."""

import time
from typing import Any

from torch import Generator, Tensor, nn

from secateur import pruning
from secateur.config import Cell, Study
from secateur.data import Dataset, Splits, subset
from secateur.graph import trace
from secateur.hashing import canonical, derive_seed
from secateur.recipes import Adversary
from secateur.registry import CRITERIA
from secateur.stages.networks import (
    Tick,
    dense_ancestor,
    generator,
    measured,
    network,
    parent_of,
    saved,
    splits_of,
)
from secateur.store import NetworkScience, Parts, Proof, PruneScience, Store
from secateur.train import perturb

# Images from which a criterion that looks at data computes its scores.
CALIBRATION_IMAGES = 256
# The attack of robust_taylor on networks that were not trained adversarially.
ADVERSARY = Adversary(epsilon=8 / 255, step_size=2 / 255, steps=10)


def prune(study: Study, cell: Cell, store: Store, tick: Tick | None) -> Parts:
    """Prune the parent's network. Sparsities are fractions of the dense network, also in later rounds.

    Raises:
        RuntimeError: the network has more parameters than a less sparse one of the same study.
    """
    start = time.perf_counter()
    splits = splits_of(study)
    model = network(study, parent_of(cell), store)
    dense = store.network_science(dense_ancestor(cell, store))
    settings = {key: value for key, value in cell.settings.items() if key != "criterion_version"}
    remove = _mask_weights if cell.masked else _cut_channels
    removed = remove(study, cell, model, splits, settings, store)
    science = PruneScience(
        **measured(study, cell, model, test=splits.test).to_json(),
        parameters_dense=dense.parameters,
        macs_dense=dense.macs,
        sparsity_requested=settings["sparsity"],
        **removed,
    )
    _refuse_growth(cell, store, science)
    return Parts(science, saved(model, store, cell), {"seconds": time.perf_counter() - start})


def _cut_channels(
    study: Study, cell: Cell, model: nn.Module, splits: Splits, settings: dict[str, Any], store: Store
) -> dict[str, Any]:
    example = splits.validation.x[:2]
    graph = trace(model, example)
    # A later round is given the sizes of the dense network, as what is left no longer tells them.
    first = dense_ancestor(cell, store)
    if later := parent_of(cell) != first:
        whole = trace(network(study, first, store), example)
        settings = settings | {"dense_sizes": {group.name: group.size for group in whole.groups}}
    batch = calibration_batch(
        settings["criterion"],
        model,
        splits.train,
        # The name is part of every seed so far: another word would draw other images.
        generator=generator(derive_seed(cell.seed, "evidence")),
        adversary=study.recipe(cell.axes["model"]).adversary,
    )
    plan = pruning.plan(graph, seed=cell.seed, batch=batch, **settings)
    report = pruning.apply(model, plan, example_inputs=example)
    channels = sum(settings["dense_sizes"].values()) if later else report.channels_before
    return {
        "sparsity_achieved": 1 - report.channels / channels if later else report.sparsity_achieved,
        "groups": report.groups_pruned,
        "proof": Proof(
            max_error=report.max_error,
            gradient_error=report.gradient_error,
            changed_by_design=list(report.changed_by_design),
        ),
        "notes": list(report.notes),
    }


def _mask_weights(
    study: Study, cell: Cell, model: nn.Module, splits: Splits, settings: dict[str, Any], store: Store
) -> dict[str, Any]:
    report = pruning.mask(model, seed=cell.seed, **settings)
    return {
        "sparsity_achieved": report.sparsity_achieved,
        "groups": len(report.layers),
        # Channels are proved against the masked network; here the result is the masked network.
        "proof": Proof(max_error=None, gradient_error=None, changed_by_design=[]),
        "notes": list(report.notes),
    }


def _refuse_growth(cell: Cell, store: Store, science: PruneScience) -> None:
    """Refuse more parameters at a higher sparsity, by comparison with every finished sibling.

    Under global scope channels compete across layers, and a random criterion may remove them from wider
    layers: there only the dense network is an upper bound.
    """
    points = [(0.0, science.parameters_dense, "the dense network")]
    if cell.settings["scope"] == "local":
        for other in store.children(parent_of(cell)):
            if other.stage != "prune" or not _differ_in_sparsity(cell, other):
                continue
            if store.committed(other.id):
                sibling = store.network_science(other.id)
                points.append((other.settings["sparsity"], _counted(sibling), other.label))
    own, mine = cell.settings["sparsity"], _counted(science)
    for sparsity, parameters, label in points:
        if (sparsity < own and parameters < mine) or (sparsity > own and parameters > mine):
            raise RuntimeError(f"parameters rise with sparsity: {parameters:,} in {label}, {mine:,} here")


def _counted(network: NetworkScience) -> int:
    # Masks leave the number of parameters as it was.
    return network.parameters if network.parameters_nonzero is None else network.parameters_nonzero


def _differ_in_sparsity(cell: Cell, other: Cell) -> bool:
    same = canonical({**other.settings, "sparsity": 0}) == canonical({**cell.settings, "sparsity": 0})
    return same and other.id != cell.id


def needs_images(criterion: str) -> bool:
    """Whether a criterion scores channels on images.

    Raises:
        UserError: there is no criterion of this name.

    >>> needs_images("taylor"), needs_images("l1")
    (True, False)
    """
    return bool(CRITERIA.entry(criterion).facts.get("needs_batch"))


def calibration_batch(
    criterion: str,
    model: nn.Module,
    images: Dataset,
    *,
    generator: Generator,
    adversary: Adversary | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Images [n, C, H, W] and labels [n] for a criterion that looks at data; None for others.

    Args:
        criterion: its registered name.
        model: the network to be pruned, which adversarial images are made against.
        images: at most 256 of them are drawn, stratified by class.
        generator: of the draw and of the attack.
        adversary: makes the images of ``robust_taylor``; by default 10 steps at L-infinity 8/255.
    """
    if not needs_images(criterion):
        return None
    chosen = subset(images, min(images.n, CALIBRATION_IMAGES), generator=generator)
    if CRITERIA.entry(criterion).facts["needs_batch"] != "adversarial":
        return chosen.x, chosen.y
    attack = adversary or ADVERSARY
    attacked = perturb(model, chosen.x, chosen.y, adversary=attack, generator=generator, bounds=chosen.bounds)
    return attacked, chosen.y
