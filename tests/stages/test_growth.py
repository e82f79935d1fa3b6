"""A pruned network is compared with its siblings, and with no other cell of the study."""

import pytest

from secateur.stages import prune_stage
from secateur.store import Store
from toy.numbers import numbers_of, record_of
from toy.study import SMALL, small_plan

PLAN = small_plan(SMALL, overrides=["sparsities=[0, 0.3, 0.5]", "seeds=[0, 1, 2]", "criteria=[l1, random]"])


class Unread(tuple):
    """Cells that nobody may go through."""

    def __iter__(self):
        raise AssertionError("all cells of the study were looked at")


def test_a_pruned_network_is_compared_with_its_siblings_alone(tmp_path, monkeypatch):
    store = Store.create(tmp_path / "run", PLAN.to_json())
    less, more = [
        cell
        for cell in PLAN.cells
        if (cell.stage, cell.axes["criterion"], cell.axes["seed"]) == ("prune", "l1", 1)
    ]
    store.commit(record_of(less, science=numbers_of("prune", parameters=8, parameters_dense=20)))
    store.children(more.id)
    monkeypatch.setattr(store, "cells", Unread(store.cells))
    prune_stage._refuse_growth(more, store, numbers_of("prune", parameters=7, parameters_dense=20))
    with pytest.raises(RuntimeError, match=r"8 in prune plain/1 l1 0\.3, 9 here"):
        prune_stage._refuse_growth(more, store, numbers_of("prune", parameters=9, parameters_dense=20))
