"""Compare two results on the same images: two evaluations, or two attacks. The public ``compare``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure

from secateur.decision.figures import changes
from secateur.decision.lines import Line, distance_line, right, robust_line, robust_names, share_line
from secateur.display import Shown
from secateur.errors import UserError
from secateur.stats import Floats, near_chance


class Result(Protocol):
    """What :func:`compare` takes beside JSON: an ``Evaluated`` or a ``Classified``."""

    def to_json(self) -> dict[str, Any]:
        """The result as plain data."""


@dataclass(frozen=True, repr=False)
class Compared(Shown):
    """Two results on the ``n`` images that both saw, quantity by quantity."""

    lines: tuple[Line, ...]
    n: int

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [(name, f"{first} → {second}: {change}") for name, first, second, change in self.cells()]
        return f"{self.n} images that both results have", rows

    def plot(self) -> Figure:
        """The change of every share with its interval, as a matplotlib figure."""
        return changes(self.lines, "first", "second")

    def cells(self) -> list[tuple[str, str, str, str]]:
        """Name, first, second and change of every line."""
        return [line.cells() for line in self.lines]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"schema_version": 1, "n": self.n, "lines": [line.to_json() for line in self.lines]}


def compare(first: Result | Mapping[str, Any], second: Result | Mapping[str, Any]) -> Compared:
    """Compare two evaluations, or two attacks, image by image, with paired intervals.

    Args:
        first: what ``evaluate`` or ``secateur.attack`` returned, or its JSON (``--out`` on the command line).
        second: the same of another network, or of another attack in the same norm.

    Raises:
        UserError: two kinds of results, two norms, or no image in common.

    >>> import secateur
    >>> from secateur.decision import evaluate
    >>> images = secateur.data.load("digits:split").take(range(60))
    >>> networks = [secateur.models.resolve(f"shipped:digits-{name}") for name in ("plain", "robust")]
    >>> compare(*(evaluate(network, images) for network in networks)).lines[0].n
    60
    """
    pair = [each if isinstance(each, Mapping) else each.to_json() for each in (first, second)]
    for each in pair:
        if not isinstance(each.get("hashes"), list):
            raise UserError(
                "one of the results names no images",
                hint="give what attack or evaluate returned, or its to_json()",
                command="write it with --out of attack or evaluate",
            )
        _refuse_newer(each)
        _refuse_uneven(each)
    kinds = [_kind(each) for each in pair]
    if kinds[0] != kinds[1]:
        raise UserError("one result is an attack, the other an evaluation", hint="compare two of a kind")
    one, two = _on_common_images(pair[0], pair[1])
    n = len(one["hashes"])
    if kinds[0] == "evaluation":
        correct = [np.array(each["correct"], dtype=np.float64) for each in (one, two)]
        return Compared((share_line("accuracy", "accuracy", *correct),), n)
    return Compared(tuple(_attack_lines(one, two)), n)


def _kind(result: Mapping[str, Any]) -> str:
    return "evaluation" if result.get("kind") == "evaluation" else "attack"


def _refuse_newer(result: Mapping[str, Any]) -> None:
    version, known = result.get("schema_version"), _SCHEMAS[_kind(result)]
    if isinstance(version, int) and version > known:
        raise UserError(
            f"one of the results was written by a newer secateur (schema {version}, this one knows {known})",
            hint="update secateur",
        )


def _refuse_uneven(result: Mapping[str, Any]) -> None:
    n = len(result["hashes"])
    columns = {key: result[key] for key in _PER_IMAGE if key in result} | dict(result.get("distances") or {})
    columns |= {f"found at {each['eps']}": each["found"] for each in result.get("sizes") or ()}
    for name, column in columns.items():
        if not isinstance(column, list) or len(column) != n:
            raise UserError(
                f"one of the results is damaged: it has {n} images, and not as many values of '{name}'",
                hint="run attack or evaluate again",
            )


def _attack_lines(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[Line]:
    if one["targeted"] or two["targeted"]:
        raise UserError(
            "a targeted attack says nothing about robust accuracy", hint="compare untargeted attacks"
        )
    if one["norm"] != two["norm"]:
        raise UserError(
            f"one attack is in {one['norm']}, the other in {two['norm']}", hint="compare one norm"
        )
    lines = [share_line("accuracy", "accuracy", right(one), right(two))]
    if {one["kind"], two["kind"]} != {"minimum-norm"}:
        sizes = [sizes_of(each) for each in (one, two)]
        common = sorted(set(sizes[0]) & set(sizes[1]))
        if not common:
            raise UserError(
                "the two attacks were not run at a common size",
                hint="give both the same eps",
                command="give both the same --eps",
            )
        return [*lines, *(share_line(*robust_names(one, e), sizes[0][e], sizes[1][e]) for e in common)]
    stated = {each["eps"] for result in (one, two) for each in result["summary"].get("robust_accuracy", ())}
    lines += [robust_line(one, two, eps) for eps in sorted(stated)]
    return [*lines, distance_line(one, two, collapsed=near_chance_of(one) or near_chance_of(two))]


def near_chance_of(record: Mapping[str, Any]) -> bool:
    """Whether the attacked network is near chance on these images."""
    classes = len(record["summary"].get("classes", ())) or max(record["labels"]) + 1
    return near_chance(int(right(record).sum()), len(record["outcome"]), max(classes, 2))


def sizes_of(record: Mapping[str, Any]) -> dict[float, Floats]:
    """By size of a fixed-size attack, 1 for every image that withstands it; of another, nothing."""
    return {
        float(each["eps"]): right(record) * ~np.array(each["found"], dtype=bool)
        for each in record.get("sizes") or ()
    }


_PER_IMAGE = ("hashes", "outcome", "correct")
_SCHEMAS = {"evaluation": 1, "attack": 2}
"""Newest schema of either that this version reads; those that it writes."""


def _on_common_images(
    one: Mapping[str, Any], two: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both results on the images that both have, in the order of the first; equal images count once."""
    places = [{image: i for i, image in reversed([*enumerate(each["hashes"])])} for each in (one, two)]
    order = [image for image in places[0] if image in places[1]]
    order.sort(key=places[0].__getitem__)
    if not order:
        raise UserError("the two results have no image in common", hint="use the same data, seed and limit")
    return _rows(one, [places[0][each] for each in order]), _rows(two, [places[1][each] for each in order])


def _rows(result: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """A result with these images alone."""
    chosen: dict[str, Any] = {key: [result[key][i] for i in rows] for key in _PER_IMAGE if key in result}
    if "distances" in result:
        chosen["distances"] = {
            norm: [values[i] for i in rows] for norm, values in result["distances"].items()
        }
    if result.get("sizes"):
        chosen["sizes"] = [{**each, "found": [each["found"][i] for i in rows]} for each in result["sizes"]]
    return {**result, **chosen}
