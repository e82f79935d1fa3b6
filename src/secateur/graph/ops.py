"""Properties of ATen operations, in one table; what an operation means for channels is said in ``rules/``.

An operation without a row is handled correctly, only without the short cut that a property allows: its
result is masked once more, counts as saved for gradients, or is a step of its own in the pictures.
"""

from enum import Flag, auto


class Does(Flag):
    """What an operation does beside computing."""

    RESHAPE = auto()
    """A row-major reshape: several spellings of ``view``."""
    VIEW = auto()
    """The result shares memory with the argument, though the schema does not say so."""
    PART = auto()
    """The result is a part of its argument, along the argument's own dimensions."""
    MOVE = auto()
    """Elements are moved or copied; nothing is computed."""
    ZERO = auto()
    """Masked arguments give a masked result: no mask has to be applied to it."""
    LAYOUT = auto()
    """Comes and goes with the memory layout or the device; changes no value."""
    LITERAL = auto()
    """Makes a tensor of a number that stands in the code."""
    FILL = auto()
    """Makes a tensor of one number, and takes shape and type alone of its argument."""
    SUM = auto()
    """A reduction that positions of zeros do not change."""
    MATMUL = auto()
    """Multiplies the matrices that are its last two positional arguments."""
    BATCHED = auto()
    """A matrix product for each position of a leading dimension: attention, where both are activations."""
    DISTANCE = auto()
    """Sums over what differs between its arguments, which a zero in only one of them does not stop."""
    QUIET = auto()
    """Reads sizes or checks values and returns no tensor."""
    COUNT = auto()
    """Integers among the results follow from those among the arguments, not from numbers beside them."""
    BLANK = auto()
    """Makes a tensor of memory as it is, to be written to."""
    WRITE = auto()
    """Writes all of its first argument anew, without a look at what was there."""
    SCRATCH = auto()
    """Memory among its arguments is room for its own numbers, and never read."""
    PICK = auto()
    """Picks by masks among its arguments, or writes what was picked."""
    READ = auto()
    """Gives the code a plain number, by which it may decide what it does."""
    SAVES_NOTHING = auto()
    """The gradient with respect to activations needs neither arguments nor result."""
    SAVES_RESULT = auto()
    """The gradient with respect to activations needs the result alone."""
    SAVES_FACTORS = auto()
    """The gradient needs the other factor, so nothing where that is a number."""


_MOVED = Does.MOVE | Does.ZERO
_COPIED = _MOVED | Does.LAYOUT

_TABLE: dict[str, Does] = {
    "view": _MOVED | Does.RESHAPE,
    "_unsafe_view": _MOVED | Does.RESHAPE | Does.VIEW,
    "_reshape_alias": _MOVED | Does.RESHAPE,
    "reshape": _MOVED | Does.RESHAPE,
    "permute": _MOVED,
    "transpose": _MOVED,
    "t": _MOVED,
    "unsqueeze": _MOVED,
    "squeeze": _MOVED,
    "expand": _MOVED,
    "select": _MOVED,
    "slice": _MOVED | Does.PART,
    "split": _MOVED,
    "split_with_sizes": _MOVED,
    "unbind": _MOVED,
    "alias": _COPIED | Does.PART,
    "clone": _COPIED | Does.SAVES_NOTHING,
    "contiguous": _COPIED,
    "detach": _COPIED | Does.PART,
    "_to_copy": _COPIED | Does.SAVES_NOTHING,
    "lift": Does.VIEW,
    "lift_fresh": _COPIED | Does.LITERAL,
    # Into labelled memory a constant may be copied, whose result must be masked: no ZERO.
    "copy_": Does.MOVE | Does.SAVES_NOTHING | Does.WRITE,
    "fill_": Does.WRITE,
    "zero_": Does.WRITE,
    "rrelu_with_noise": Does.SCRATCH,
    "rrelu_with_noise_": Does.SCRATCH,
    "as_strided_": Does.LAYOUT,
    "empty": Does.LAYOUT | Does.BLANK,
    "empty_like": Does.BLANK,
    "new_empty": Does.BLANK,
    "empty_strided": Does.BLANK,
    "new_empty_strided": Does.BLANK,
    "zeros": Does.FILL,
    "ones": Does.FILL,
    "full": Does.FILL,
    "new_zeros": Does.FILL,
    "new_ones": Does.FILL,
    "new_full": Does.FILL,
    "zeros_like": Does.FILL,
    "ones_like": Does.FILL,
    "full_like": Does.FILL,
    "relu": Does.ZERO | Does.SAVES_RESULT,
    "relu_": Does.ZERO | Does.SAVES_RESULT,
    "_softmax": Does.SAVES_RESULT,
    "sigmoid": Does.SAVES_RESULT,
    "tanh": Does.SAVES_RESULT,
    "exp": Does.SAVES_RESULT,
    "mul": Does.SAVES_FACTORS,
    "div": Does.SAVES_FACTORS,
    "add": Does.SAVES_NOTHING,
    "add_": Does.SAVES_NOTHING,
    "sub": Does.SAVES_NOTHING,
    "sub_": Does.SAVES_NOTHING,
    "rsub": Does.SAVES_NOTHING,
    "cat": Does.SAVES_NOTHING,
    "stack": Does.SAVES_NOTHING,
    "roll": Does.SAVES_NOTHING,
    "constant_pad_nd": Does.SAVES_NOTHING,
    "mean": Does.SAVES_NOTHING,
    "sum": Does.SUM | Does.SAVES_NOTHING,
    "nansum": Does.SUM,
    "norm": Does.SUM,
    "linalg_vector_norm": Does.SUM,
    "any": Does.SUM,
    # Products of activations with weights: the weights' values are kept anyway.
    "mm": Does.MATMUL | Does.SAVES_NOTHING,
    "addmm": Does.MATMUL | Does.SAVES_NOTHING,
    "bmm": Does.MATMUL | Does.BATCHED,
    "baddbmm": Does.MATMUL | Does.BATCHED,
    "_euclidean_dist": Does.DISTANCE,
    "_cdist_forward": Does.DISTANCE,
    "index": Does.PICK,
    "_unsafe_index": Does.PICK,
    "masked_select": Does.PICK,
    "index_put_": Does.PICK,
    "index_put": Does.PICK,
    "masked_scatter": Does.PICK,
    "masked_scatter_": Does.PICK,
    "_pack_padded_sequence": Does.COUNT,
    "_assert_async": Does.QUIET,
    "_assert_scalar": Does.QUIET,
    "sym_size": Does.QUIET,
    "_local_scalar_dense": Does.QUIET | Does.READ,
}


def operations(that: Does) -> frozenset[str]:
    """The qualified names of the operations that do any of this.

    >>> sorted(operations(Does.BATCHED))
    ['aten::baddbmm', 'aten::bmm']
    """
    return frozenset(f"aten::{name}" for name, does in _TABLE.items() if does & that)
