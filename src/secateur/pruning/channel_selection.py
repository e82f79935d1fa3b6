"""Choose which channels of each group to remove, by score."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph
from secateur.graph.groups import Group, Tie
from secateur.graph.outputs import features_returned
from secateur.graph.propagation import FAILED
from secateur.graph.trace.computed_weights import orthogonal_weights
from secateur.graph.trace.named_tensors import named_tensors, scripted_modules, shapes_of
from secateur.models.normalisation import INNER, Normalised
from secateur.pruning.keep_counts import Request, global_target
from secateur.surgery.plan import Cut, Slice
from secateur.text import did_you_mean, first_few

# A layer as users name it.
Named = str | nn.Module | torch.Tensor


def traced_shapes(graph: DependencyGraph) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters and buffers at the time of the trace."""
    return {value.name: value.shape for value in graph.tape.values if value.kind in {"parameter", "buffer"}}


def checked_scores(
    score: Callable[..., torch.Tensor],
    group: Group,
    model: nn.Module,
    generator: torch.Generator,
    reduction: str,
) -> torch.Tensor:
    """The scores of one group.

    Raises:
        UserError: the criterion does not return one finite number per channel.
    """
    scores = score(group, model, generator=generator, reduction=reduction)
    fits = isinstance(scores, torch.Tensor) and scores.shape == (group.size,)
    if not fits or not bool(torch.isfinite(scores).all()):
        raise UserError(
            f"the criterion must return one finite score per channel of {group.name}",
            hint="check the weights for NaN and infinity" if fits else "return a tensor, [channels]",
        )
    return scores


def _touching(graph: DependencyGraph, name: str) -> set[int]:
    """Indices of the groups called ``name`` and of those with members in that module or parameter."""
    return {
        number
        for number, group in enumerate(graph.groups)
        if group.name == name or any(f"{member.tensor}.".startswith(f"{name}.") for member in group.members)
    }


def protected_groups(graph: DependencyGraph, keep: Sequence[Named]) -> set[int]:
    """Indices of the groups that contain anything in ``keep``: modules and parameters, or their names.

    Raises:
        UserError: a name that matches nothing, or a module of another model.
    """
    if isinstance(keep, (str, nn.Module, torch.Tensor)):
        form = f"['{keep}']" if isinstance(keep, str) else "[model.head]"
        what = repr(keep) if isinstance(keep, str) else type(keep).__name__
        raise UserError(
            f"keep must be a list of names or modules, got {what}", hint=f"for example keep={form}"
        )
    if not keep:
        return set()
    protected: set[int] = set()
    known = {name for name, _ in graph.model.named_modules()} | set(shapes_of(graph.model))
    for name in [_name_of(graph.model, item) for item in keep]:
        hit = _touching(graph, name)
        if not hit and isinstance(graph.model, Normalised):
            # Users name the layers of their own network, without the prefix of the normalisation in front.
            known |= {inner.removeprefix(INNER) for inner in known}
            hit = _touching(graph, INNER + name)
        if not hit and name not in known:
            raise UserError(
                f"'{name}' is not a module, parameter or group of this model",
                hint=did_you_mean(name, known, otherwise="graph.explain() lists them"),
            )
        protected |= hit
    return protected


def _name_of(model: nn.Module, item: Named) -> str:
    """The name of a module or parameter of the model; names as they are."""
    if isinstance(item, str):
        return item
    held = model.named_modules() if isinstance(item, nn.Module) else named_tensors(model).items()
    name = next((name for name, other in held if other is item), None)
    if name is None:
        raise UserError(
            f"a {type(item).__name__} named in keep or rates is not part of this model",
            hint="pass a module or parameter of the model that is pruned, or its name",
        )
    return name


def cut_group(
    group: Group, scores: torch.Tensor, counts: Mapping[int, int], tied: Mapping[int, set[int]]
) -> Cut | None:
    """The cut of one group, or ``None`` if it loses nothing: the lowest-scoring channels of each part.

    ``counts`` says how many channels each part keeps, ``tied`` which ties each part belongs to.
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
    # Most members lose the same indices: one tuple for all of them saves time and memory.
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
    """The indices of the ties that each part belongs to."""
    found: dict[int, set[int]] = {}
    for number, tie in enumerate(ties):
        for row in tie.rows:
            for part, _ in row.parts:
                found.setdefault(part, set()).add(number)
    return found


def notes_of(graph: DependencyGraph, request: Request, cuts: Sequence[Cut]) -> tuple[str, ...]:
    """Notes on the plan: groups that are not pruned, and why, and what a global scope could not remove."""
    # A rule that failed is a fault of ours: it costs channels, and must not go unseen.
    failed = (str(reason) for _, reason in graph.atoms.frozen if reason.why.startswith(FAILED))
    notes = [f"not pruned: what {reason}" for reason in dict.fromkeys(failed)]
    notes += [f"not pruned: {name}: compiled to TorchScript" for name in scripted_modules(graph.model)]
    cut_tensors = {part.tensor for item in cuts for part in item.slices}
    for one in orthogonal_weights(graph.model):
        after = "; without what is removed it is orthogonal no longer" if cut_tensors & {*one.sources} else ""
        notes.append(f"{one.name} is orthogonal: what depends on all its rows stays whole{after}")
    notes += [f"not pruned: {kept}" for kept in features_returned(graph.tape, graph.atoms, graph.frozen)]
    cut = {item.group for item in cuts}
    for number, group in enumerate(graph.groups):
        if number in request.protected:
            notes.append(f"not pruned: {group.name}: named in keep")
        elif group.name in graph.learned.blocked:
            notes.append(f"not pruned: {group.name}: {graph.learned.blocked[group.name]}")
        elif group.size == 1:
            notes.append(f"not pruned: {group.name}: a single channel")
        elif request.rate(number) > 0 and group.name not in cut:
            notes.append(f"not pruned: {group.name}: floors or equal counts keep its {group.size} channels")
    if request.scope == "global" and (short := _missed(graph, request, cuts)):
        notes.append(f"{short} fewer channels than requested are removed: floors, rounding or equal counts")
    if idle := _left_behind(graph, cuts):
        notes.append(
            f"{first_few(idle)} did not run on the example inputs and may no longer fit: pass inputs "
            "that use them, or keep the layers before and after"
        )
    return tuple(notes)


def _left_behind(graph: DependencyGraph, cuts: Sequence[Cut]) -> list[str]:
    """What did not run and has a dimension that a removed channel may have run along, by its size."""
    shapes = traced_shapes(graph)
    cut = {shapes[part.tensor][part.dim] for item in cuts for part in item.slices}
    # Flattened images and packed projections have multiples of the width that they read.
    fits = [
        name for name, shape in shapes.items() if any(size % width == 0 for size in shape for width in cut)
    ]
    return [part for part in graph.idle if any(f"{name}.".startswith(f"{part}.") for name in fits)]


def _missed(graph: DependencyGraph, request: Request, cuts: Sequence[Cut]) -> int:
    """How many channels of a global request could not be removed."""
    blocked = {n for n, group in enumerate(graph.groups) if group.name in graph.learned.blocked}
    competing, asked = global_target(graph, request, request.protected | blocked)
    names = {graph.groups[number].name for number in competing}
    return max(0, asked - sum(item.channels - item.kept for item in cuts if item.group in names))
