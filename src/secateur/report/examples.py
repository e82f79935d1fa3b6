"""Adversarial pictures of a page: the same images on the dense network and on pruned ones."""

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.report.aggregate import AttackPoint, Grid, GridPoint, dense_of, dense_tuned_of
from secateur.report.formatting import NORM_LABELS, arm_label, attack_label, network_label, number
from secateur.report.pairing import no_robustness
from secateur.report.records import Attack
from secateur.store import Examples, evenly

MOST = 2
"""Images of a model under an attack on the page of a study."""
PRUNED = 3
"""Pruned networks beside the dense one."""
BYTES = 1_000_000
"""Room for the pictures of a page."""
RULE = (
    "Shown are the images whose distance on the dense network is closest to its median, among those for "
    "which the attack found an example on every network shown; of an attack of fixed size, the first of them."
)
Open = Callable[[str], Examples | None]


@dataclass(frozen=True, eq=False)
class Attacked:
    """One network under attack, as far as its pictures need it; arrays have an entry per attacked image.

    ``labels`` and ``predicted`` are class numbers; older records have none.
    """

    name: str
    norm: str
    fixed: bool
    found: NDArray[np.bool_]
    distances: NDArray[np.float64]
    labels: Sequence[int]
    predicted: Sequence[int]
    kept: Examples

    @classmethod
    def of_record(cls, name: str, record: Mapping[str, Any], kept: Examples) -> "Attacked":
        """A network from the output of ``Evaluated.to_json``."""
        norm = record["norm"]
        stored = [np.inf if value is None else value for value in record["distances"][norm]]
        return cls(
            name=name,
            norm=norm,
            fixed=record["kind"] == "fixed-eps",
            found=np.array([outcome == "found" for outcome in record["outcome"]], dtype=bool),
            distances=np.array(stored, dtype=np.float64),
            labels=record["labels"],
            predicted=record["adv_preds"],
            kept=kept,
        )

    def class_of(self, numbers: Sequence[int], place: int) -> str:
        """The name of the class that ``numbers`` give to an image."""
        if place >= len(numbers):
            return "unknown"
        here = numbers[place]
        return self.kept.classes[here] if 0 <= here < len(self.kept.classes) else str(here)


@dataclass(frozen=True)
class Shot:
    """A picture as a ``data:`` address, its words for who cannot see it, and the lines below it."""

    uri: str
    alt: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """One image: clean, adversarial on every network, and what was added, all magnified by one factor."""

    title: str
    names: tuple[str, ...]
    clean: Shot
    adversarial: tuple[Shot, ...]
    added: tuple[Shot, ...]
    factor: str
    model: str = ""

    @property
    def size(self) -> int:
        """Bytes on the page."""
        return sum(len(shot.uri) for shot in (self.clean, *self.adversarial, *self.added))


@dataclass(frozen=True)
class Cards:
    """The cards of one attack and arm; ``without`` names models with no image to show."""

    title: str
    attack: str
    arm: str
    cards: tuple[Card, ...]
    without: tuple[str, ...] = ()


def typical_places(
    found: NDArray[np.bool_], distances: NDArray[np.float64] | None, places: Iterable[int]
) -> list[int]:
    """The images with an example on every network, the closest to the median distance first.

    Args:
        found: images with an example, [networks, N].
        distances: on the dense network, [N]; None of an attack of fixed size, whose distances say nothing.
        places: of the images to choose from.

    >>> found = np.array([[True, True, True, True], [True, False, True, True]])
    >>> typical_places(found, np.array([1.0, 2.0, 3.0, 9.0]), range(4))
    [2, 0, 3]
    """
    common = np.all(found, axis=0)
    places = [place for place in sorted(places) if place < len(common) and common[place]]
    if distances is None or not places:
        return places
    middle = float(np.median(distances[common]))
    return sorted(places, key=lambda place: (abs(distances[place] - middle), place))


def example_cards(networks: Sequence[Attacked], *, most: int = MOST, model: str = "") -> list[Card]:
    """A card for each of at most ``most`` images, chosen as :data:`RULE` says.

    Args:
        networks: the dense one first; all of them attacked the same images.
        most: images.
        model: its name, for the titles.
    """
    first = networks[0]
    places = set(first.kept.places).intersection(*(each.kept.places for each in networks))
    found = np.array([each.found for each in networks])
    chosen = typical_places(found, None if first.fixed else first.distances, places)
    return [_card(networks, place, model) for place in chosen[:most]]


def _card(networks: Sequence[Attacked], place: int, model: str) -> Card:
    first = networks[0]
    largest = max(float(np.abs(each.kept.added(place)).max()) for each in networks)
    # The largest change becomes black or white.
    gain = 0.5 / max(largest, 1e-6)
    label, factor = first.class_of(first.labels, place), number(2 * gain)
    return Card(
        title=f"{model + ', ' if model else ''}image {place + 1} of {len(first.found)}",
        names=tuple(each.name for each in networks),
        clean=Shot(png_uri(first.kept.pixels(place)), f"clean image of class {label}", (label,)),
        adversarial=tuple(_adversarial(each, place) for each in networks),
        added=tuple(
            Shot(
                png_uri(np.clip(0.5 + gain * each.kept.added(place), 0, 1)),
                f"{each.name}: what was added to the image of class {label}, magnified {factor} times",
            )
            for each in networks
        ),
        factor=f"×{factor}",
        model=model,
    )


def _adversarial(network: Attacked, place: int) -> Shot:
    label, become = (network.class_of(each, place) for each in (network.labels, network.predicted))
    size = f"{NORM_LABELS[network.norm]} {number(network.distances[place])}"
    words = f"{network.name}: adversarial image of class {label}, taken for {become}, distance {size}"
    return Shot(png_uri(network.kept.adversarial(place)), words, (f"→ {become}", size))


def png_uri(pixels: NDArray[Any]) -> str:
    """An image [C, H, W] in [0, 1], C = 1 or 3, as a ``data:`` address.

    >>> png_uri(np.zeros((1, 2, 2)))[:22]
    'data:image/png;base64,'
    """
    from PIL import Image

    levels = (255 * pixels).round().astype(np.uint8)
    image = Image.fromarray(levels[0] if levels.shape[0] == 1 else np.moveaxis(levels, 0, -1))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def study_cards(grid: Grid, arms: Sequence[str], open_examples: Open) -> tuple[list[Cards], int]:
    """The pictures of a study by attack and arm, and how many models under an attack had no room.

    Args:
        grid: the study.
        arms: in the order of the page.
        open_examples: gives the pictures that an attack cell kept; None where it kept none.
    """
    found: list[tuple[GridPoint, list[Card]]] = []
    for arm in arms:
        for attack in grid.attacks:
            for model in grid.models:
                where = GridPoint(model, "", 0.0, arm, attack)
                networks = list(_networks(grid, where, open_examples))
                if networks:
                    found.append((where, example_cards(networks, model=model)))
    chosen, left_out = _within(found)
    blocks: dict[tuple[str, str], Cards] = {}
    for where, cards in chosen:
        norm = next(p.norm for p in grid.points.values() if p.where.attack == where.attack)
        title = f"{attack_label(where.attack, norm)}, {arm_label(where.arm)}"
        block = blocks.setdefault((where.attack, where.arm), Cards(title, where.attack, where.arm, ()))
        without = () if cards else (where.model,)
        blocks[where.attack, where.arm] = replace(
            block, cards=(*block.cards, *cards), without=(*block.without, *without)
        )
    return list(blocks.values()), left_out


def _within(found: list[tuple[GridPoint, list[Card]]]) -> tuple[list[tuple[GridPoint, list[Card]]], int]:
    """As many images of every model as there is room for; then as many models as there is room for."""
    for most in range(MOST, 0, -1):
        few = [(where, cards[:most]) for where, cards in found]
        if sum(card.size for _, cards in few for card in cards) <= BYTES:
            return few, 0
    kept, size = [], 0
    for where, cards in few:
        size += sum(card.size for card in cards)
        if size <= BYTES:
            kept.append((where, cards))
    return kept, len(few) - len(kept)


def _networks(grid: Grid, where: GridPoint, open_examples: Open) -> Iterator[Attacked]:
    """The dense network and a few pruned ones under the first criterion; nothing without pictures."""
    dense = grid.points.get(dense_tuned_of(where)) or grid.points.get(dense_of(where))
    if dense is None or not _sound(dense):
        return
    criterion = next(iter(grid.criteria), "")
    pruned = [
        point
        for sparsity in grid.sparsities
        if sparsity > 0
        if (point := grid.points.get(replace(where, criterion=criterion, sparsity=sparsity))) is not None
        if _sound(point)
    ]
    if grid.criteria and not pruned:
        return
    points = [dense, *(pruned[i] for i in evenly(len(pruned), PRUNED) if pruned)]
    seeds = [seed for seed in dense.seeds if all(seed in point.seeds for point in points)]
    first = dense.seeds[seeds[0]] if seeds else None
    for point in points if first else ():
        attack = point.seeds[seeds[0]]
        kept = open_examples(attack.id)
        if kept is None and point is dense:
            return
        if kept is not None and first is not None and attack.hashes == first.hashes:
            yield _attacked(point, attack, kept, where.arm)


def _sound(point: AttackPoint) -> bool:
    return point.checked not in "CX" and not no_robustness(point.state)


def _attacked(point: AttackPoint, attack: Attack, kept: Examples, arm: str) -> Attacked:
    other = "" if point.where.arm == arm else f", {arm_label(point.where.arm)}"
    return Attacked(
        name=f"{network_label(point.where.criterion, point.where.sparsity)}{other}",
        norm=attack.norm,
        fixed=attack.fixed,
        found=attack.found,
        distances=attack.distances[attack.norm],
        labels=attack.science.labels or (),
        predicted=attack.science.adv_preds,
        kept=kept,
    )
