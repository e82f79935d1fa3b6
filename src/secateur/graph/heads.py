"""Attention pruned by whole heads: find the heads, and make one channel of each."""

from collections.abc import Mapping

import numpy as np

from secateur.errors import UserError
from secateur.graph.atoms import Atoms
from secateur.graph.labels import Factor, IntArray, Marks, columns_last
from secateur.graph.ops import Does, operations
from secateur.graph.trace.tape import Tape

HEADS = ("width", "whole")
_PRODUCTS = operations(Does.BATCHED)


def check_heads(heads: str) -> None:
    """Check how attention is to be pruned.

    Raises:
        UserError: it is neither ``width`` nor ``whole``.
    """
    if heads not in HEADS:
        raise UserError(f"unknown heads '{heads}'", hint=f"known: {', '.join(HEADS)}")


def attention_heads(tape: Tape, marks: Mapping[int, Marks], size: int) -> IntArray:
    """The head of queries, keys or values that each atom belongs to, -1 where it belongs to none.

    Batched products of two activations are attention; the rows of channels along the batch are its heads.

    Raises:
        UserError: the model has no attention with several heads.
    """
    head = np.full(size, -1, dtype=np.int64)
    for call in tape.calls:
        if call.name not in _PRODUCTS:
            continue
        # Products with weights are batched, too (experts); their rows are no heads.
        for number in call.refs:
            for factor in () if marks[number].weight else marks[number].factors:
                if 0 in factor.rows:
                    rows = columns_last(factor)
                    head[rows[rows >= 0]] = np.broadcast_to(rows[:, :1], rows.shape)[rows >= 0]
    if (head < 0).all():
        raise UserError("this model has no attention with several heads", hint="leave heads out")
    return head


def are_heads(factor: Factor, head: IntArray) -> bool:
    """Whether each row of a factor is one head, or a part of one."""
    rows = columns_last(factor)
    # Constants, and atoms that were made after the heads were found, belong to none.
    if bool((rows < 0).any() or (rows >= head.size).any()):
        return False
    own = head[rows]
    return bool((own >= 0).all() and (own == own[:, :1]).all())


def as_wholes(atoms: Atoms, factor: Factor) -> Factor:
    """Join all channels of a head, so that the heads are the column that shrinks."""
    return Factor(atoms.merge(factor.atoms, [factor.column]), factor.rows[-1])
