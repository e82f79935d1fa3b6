"""No test sees what another one has registered, whichever of them runs first in a process."""

import pytest
import torch

from registered import names_as_they_were
from secateur.graph.rules import RULES, rule
from secateur.registry import ATTACKS, CRITERIA, load_plugin, loaded

PLUGIN = """
from secateur.registry import CRITERIA

def score(group, model, batch):
    return 0

CRITERIA.register("of_a_file", score)
"""


def test_names_rules_and_files_are_gone_afterwards(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(PLUGIN, encoding="utf-8")
    before = CRITERIA.names(), ATTACKS.names(), dict(RULES), dict(loaded())
    with names_as_they_were():
        CRITERIA.register("mine", torch.sum)
        load_plugin(path)
        rule("mine::twice", "aten::relu")(lambda context, call: None)
        assert {"mine", "of_a_file"} <= set(CRITERIA.names())
    assert (CRITERIA.names(), ATTACKS.names(), dict(RULES), dict(loaded())) == before


def test_they_are_gone_after_a_test_that_fails():
    def failing():
        with names_as_they_were():
            CRITERIA.register("mine", torch.sum)
            raise AssertionError

    with pytest.raises(AssertionError):
        failing()
    assert "mine" not in CRITERIA.names()


@pytest.mark.parametrize("turn", ["first", "second"])
def test_both_turns_find_a_registry_without_the_other_s_name(turn):
    assert "turns" not in CRITERIA.names()
    CRITERIA.register("turns", torch.sum)
