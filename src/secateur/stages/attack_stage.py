"""The attack stage."""

import time
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from torch import Tensor

from secateur import evaluate
from secateur.config import Cell, Study, repeats
from secateur.data import Dataset, subset
from secateur.hashing import derive_seed
from secateur.models import to_device
from secateur.stages.networks import Tick, generator, network, parent_of, splits_of
from secateur.store import EXAMPLES, AttackScience, Examples, Parts, Record, Store, evenly

# Keys of a cell's settings that the attack itself does not take.
_NOT_THE_ATTACKS = {"attack", "attack_version", "images"}
# Found once for all cells that a process computes.
_REPEATS: WeakKeyDictionary[Store, Mapping[str, str]] = WeakKeyDictionary()


def attacked_images(study: Study) -> Dataset:
    """The test images that every network of a study is attacked on.

    They are drawn by class, and depend on the data and the study's seed alone, so that networks can be
    compared image by image.

    >>> from secateur.config import parse_study
    >>> text = "{name: doc, data: digits, models: {net: resnet-tiny}, attacks: {ddn: {}}, images: 20}"
    >>> study = parse_study(text)
    >>> attacked_images(study).n
    20
    """
    test = splits_of(study).test
    if study.images is None:
        return test
    return subset(test, study.images, generator=generator(derive_seed(study.seed, "images")))


def attack(study: Study, cell: Cell, store: Store, tick: Tick | None) -> Parts:
    """Attack the parent's network; the result is verified, counted and graded by :func:`evaluate.attack`.

    Where an earlier cell has attacked the same weights in the same way, its numbers are taken over, its seed
    among them, and the provenance says ``same_as``.
    """
    start = time.perf_counter()
    if (known := _same_attack(cell, store)) is not None:
        first, numbers = known
        pictures = {name: store.artefact(first.id, name) for name in first.artefacts}
        seconds = {"seconds": time.perf_counter() - start, "times": []}
        return Parts(numbers, pictures, seconds, {"same_as": first.id})
    model = to_device(network(study, parent_of(cell), store), study.device)
    images = attacked_images(study)
    settings = {key: value for key, value in cell.settings.items() if key not in _NOT_THE_ATTACKS}
    result = evaluate.attack(
        model,
        images,
        cell.settings["attack"],
        batch_size=study.batch_size,
        seed=cell.seed,
        on_progress=tick,
        **settings,
    )
    # Seconds differ from run to run and are no part of the science.
    science = AttackScience.from_json(result.to_json(timings=False))
    timing = {"seconds": time.perf_counter() - start, "times": list(result.result.times)}
    return Parts(science, _pictures(images, result.result.adv), timing)


def _pictures(images: Dataset, adversarial: Tensor) -> dict[str, bytes]:
    """A few images and their examples, for the page of the study; nothing of data that are no pictures."""
    if images.x.ndim != 4 or images.shape[0] not in (1, 3):
        return {}
    places = evenly(images.n)
    clean, adv = (each[places].cpu().numpy() for each in (images.x, adversarial))
    return {EXAMPLES: Examples.of(clean, adv, places, images.classes, bounds=images.bounds).to_bytes()}


def _same_attack(cell: Cell, store: Store) -> tuple[Record, AttackScience] | None:
    """The earlier attack that ``cell`` repeats, and its numbers; None where none can be taken over."""
    if store not in _REPEATS:
        _REPEATS[store] = repeats(store.cells)
    record = store.record(first) if (first := _REPEATS[store].get(cell.id)) is not None else None
    if record is None or record.parent is None or not isinstance(record.science, AttackScience):
        return None
    # A network that draws numbers itself makes every attack a different one.
    random = "draws" in record.science.search
    hashes = {store.network_science(network).weights_hash for network in (record.parent, parent_of(cell))}
    return None if random or len(hashes) > 1 or store.damage(record.id) else (record, record.science)
