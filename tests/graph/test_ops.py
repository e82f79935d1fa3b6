"""The table of operation properties names operations that exist."""

import torch

from secateur.graph.ops import Does, operations


def test_every_operation_of_the_table_exists_in_torch():
    for name in operations(~Does(0)):
        short = name.removeprefix("aten::")
        # sym_size and its like have no function of their own in ``torch.ops``, only a schema.
        assert torch._C._jit_get_schemas_for_operator(name), short


def test_views_and_copies_change_no_element():
    x = torch.randn(3, 4)
    for name in operations(Does.LAYOUT) & operations(Does.MOVE):
        assert torch.equal(getattr(torch.ops.aten, name.removeprefix("aten::"))(x), x), name


def test_operations_that_keep_zeros_do():
    for name in operations(Does.ZERO) & operations(Does.SAVES_RESULT):
        assert not getattr(torch.ops.aten, name.removeprefix("aten::"))(torch.zeros(3)).any(), name
