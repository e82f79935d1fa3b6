"""Channels that stay because the model returns them, and by which name."""

from collections.abc import Iterable

from secateur.graph.atoms import Atoms
from secateur.graph.groups import Frozen
from secateur.graph.trace.tape import Tape

OUTPUT = "is an output of the model"
DECIDES = "decides which values are picked"


def why_compared(tape: Tape, number: int) -> str:
    """Why the channels of a value that proofs compare must stay, with the output's name if it has one."""
    if tape.decided and number not in tape.returned:
        return DECIDES
    name = tape.names.get(number)
    return f"{OUTPUT}, '{name}'" if name else OUTPUT


def features_returned(tape: Tape, atoms: Atoms, frozen: Iterable[Frozen]) -> list[str]:
    """One sentence for each output whose channels layers of the network read as well: features, not answers.

    >>> import torch
    >>> from torch import nn
    >>> from secateur.graph import trace
    >>> class Both(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.body, self.head = nn.Linear(4, 3), nn.Linear(3, 2)
    ...     def forward(self, x):
    ...         return {"logits": self.head(self.body(x)), "features": self.body(x)}
    >>> graph = trace(Both(), torch.zeros(1, 4))
    >>> features_returned(graph.tape, graph.atoms, graph.frozen)
    ["3 channels are the output 'features': name the logits, as in logits='logits', to prune them"]
    """
    if len(tape.names) < 2 or set(tape.returned) - {*tape.outputs}:
        return []
    _, consumed = atoms.roles()
    starts = {str(axis): axis.start for axis in atoms.axes}
    sizes: dict[str, int] = {}
    for item in frozen:
        if not item.reason.why.startswith(f"{OUTPUT}, "):
            continue
        if any(consumed[starts[axis] + indices].any() for axis, indices in item.indices.items()):
            name = item.reason.why.removeprefix(f"{OUTPUT}, ")
            sizes[name] = sizes.get(name, 0) + item.size
    # What a caller may name is a part of what the model returns.
    tops = dict.fromkeys(path.partition(".")[0] for path in tape.names.values())
    others = [top for top in tops if not any(f"{name[1:-1]}.".startswith(f"{top}.") for name in sizes)]
    if not others:
        return []
    counts = "logits" if "logits" in others else others[0]
    named = int(counts) if counts.isdigit() else counts
    return [
        f"{size} channels are the output {name}: name the logits, as in logits={named!r}, to prune them"
        for name, size in sizes.items()
    ]
