"""The attack stage."""

import time

from secateur import evaluate
from secateur.config import Cell, Study
from secateur.data import Dataset, subset
from secateur.hashing import derive_seed
from secateur.models import to_device
from secateur.stages.networks import Tick, generator, network, parent_of, splits_of
from secateur.store import AttackScience, Parts, Store

# Keys of an attack cell's settings that are the study's, not the attack's.
_NOT_THE_ATTACKS = {"attack", "attack_version", "images"}


def attacked_images(study: Study) -> Dataset:
    """The test images every network is attacked on: stratified, fixed by the study's seed alone."""
    test = splits_of(study).test
    if study.images is None:
        return test
    return subset(test, study.images, generator=generator(derive_seed(study.seed, "images")))


def attack(study: Study, cell: Cell, store: Store, tick: Tick | None) -> Parts:
    """Attack the parent's network, counted and graded."""
    start = time.perf_counter()
    model = to_device(network(study, parent_of(cell), store), study.device)
    settings = {key: value for key, value in cell.settings.items() if key not in _NOT_THE_ATTACKS}
    result = evaluate.attack(
        model,
        attacked_images(study),
        cell.settings["attack"],
        batch_size=study.batch_size,
        seed=cell.seed,
        on_progress=tick,
        **settings,
    )
    science = AttackScience.from_json(result.to_json(timings=False))
    return Parts(science, {}, {"seconds": time.perf_counter() - start, "times": list(result.result.times)})
