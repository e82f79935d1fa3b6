"""Selection: which channels of each group go, by score."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph
from secateur.graph.groups import Group, Tie
from secateur.graph.trace.named_tensors import shapes_of
from secateur.models.normalisation import INNER, Normalised
from secateur.pruning.keep_counts import Request, global_target
from secateur.surgery.plan import Cut, Slice
from secateur.text import did_you_mean


def traced_shapes(graph: DependencyGraph) -> dict[str, tuple[int, ...]]:
    """Names and shapes of parameters and buffers when the model was traced."""
    return {value.name: value.shape for value in graph.tape.values if value.kind in {"parameter", "buffer"}}


def checked_scores(
    score: Callable[..., torch.Tensor],
    group: Group,
    model: nn.Module,
    generator: torch.Generator,
    reduction: str,
) -> torch.Tensor:
    """Scores of one group, checked.

    Raises:
        UserError: the criterion does not give one finite number per channel.
    """
    scores = score(group, model, generator=generator, reduction=reduction)
    if scores.shape != (group.size,) or not bool(torch.isfinite(scores).all()):
        raise UserError(
            f"the criterion gives no finite score for every channel of {group.name}",
            hint="check the weights for NaN and infinity",
        )
    return scores


def _touching(graph: DependencyGraph, name: str) -> set[int]:
    """Numbers of the groups called ``name``, or with members in the module or parameter called so."""
    return {
        number
        for number, group in enumerate(graph.groups)
        if group.name == name or any(f"{member.tensor}.".startswith(f"{name}.") for member in group.members)
    }


def protected_groups(graph: DependencyGraph, keep: Sequence[str]) -> set[int]:
    """Numbers of the groups that touch what ``keep`` names.

    Raises:
        UserError: a name fits nothing.
    """
    if isinstance(keep, str):
        raise UserError("keep must be a list of names", hint=f"for example keep=['{keep}']")
    if not keep:
        return set()
    protected: set[int] = set()
    known = {name for name, _ in graph.model.named_modules()} | set(shapes_of(graph.model))
    for name in keep:
        hit = _touching(graph, name)
        if not hit and isinstance(graph.model, Normalised):
            # A network behind a normalisation keeps the names of its layers.
            known |= {inner.removeprefix(INNER) for inner in known}
            hit = _touching(graph, INNER + name)
        if not hit and name not in known:
            raise UserError(
                f"'{name}' is no module, parameter or group of this model",
                hint=did_you_mean(name, known, otherwise="graph.explain() and secateur graph list them"),
            )
        protected |= hit
    return protected


def cut_group(
    group: Group, scores: torch.Tensor, counts: Mapping[int, int], tied: Mapping[int, set[int]]
) -> Cut | None:
    """What a group loses: in each part the channels with the smallest scores, ``None`` if nothing.

    ``tied`` are the numbers of the ties that each part takes part in.
    """
    sizes = np.array(list(group.part_sizes.values()))
    excess = np.array([size - counts[part] for part, size in group.part_sizes.items()])
    if not excess.any():
        return None
    order = np.lexsort((scores.numpy(), group.parts))
    rank = np.arange(group.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    removed = np.zeros(group.size, dtype=bool)
    removed[order[rank < np.repeat(excess, sizes)]] = True
    slices = []
    # Most layers of a group lose the same indices; a member's are in order.
    known: dict[bytes, tuple[int, ...]] = {}
    for member in group.members:
        gone = member.indices[removed[member.channels]]
        key = gone.tobytes()
        if key not in known:
            known[key] = tuple(gone.tolist())
        slices.append(Slice(member.tensor, member.dim, known[key]))
    ties = set[int]().union(*(tied.get(part, ()) for part in group.part_sizes))
    return Cut(group.name, group.size, int(group.size - excess.sum()), tuple(slices), tuple(sorted(ties)))


def ties_by_part(ties: Sequence[Tie]) -> dict[int, set[int]]:
    """The numbers of the ties that each part takes part in."""
    found: dict[int, set[int]] = {}
    for number, tie in enumerate(ties):
        for row in tie.rows:
            for part, _ in row.parts:
                found.setdefault(part, set()).add(number)
    return found


def notes_of(graph: DependencyGraph, request: Request, cuts: Sequence[Cut]) -> tuple[str, ...]:
    """In words: which groups stay whole, and why, and what a global scope could not take."""
    notes = []
    cut = {item.group for item in cuts}
    for number, group in enumerate(graph.groups):
        if number in request.protected:
            notes.append(f"{group.name} stays because keep names it")
        elif group.name in graph.learned.blocked:
            notes.append(f"left whole: {group.name}: {graph.learned.blocked[group.name]}")
        elif group.size == 1:
            notes.append(f"{group.name} has a single channel and stays")
        elif request.rate(number) > 0 and group.name not in cut:
            notes.append(f"{group.name} keeps all {group.size} channels: one per part, or equal counts")
    if request.scope == "global" and (short := _missed(graph, request, cuts)):
        notes.append(f"{short} channels fewer than asked for go: floors, rounding or equal counts hold them")
    return tuple(notes)


def _missed(graph: DependencyGraph, request: Request, cuts: Sequence[Cut]) -> int:
    """How many of the channels that were to go in global competition stay."""
    blocked = {n for n, group in enumerate(graph.groups) if group.name in graph.learned.blocked}
    competing, asked = global_target(graph, request, request.protected | blocked)
    names = {graph.groups[number].name for number in competing}
    return max(0, asked - sum(item.channels - item.kept for item in cuts if item.group in names))
