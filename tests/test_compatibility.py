"""docs/compatibility.md says what was measured, and its oracles call broken tools wrong."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _benchmarks_importable():
    sys.path.append(str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def pruned_by(prune, name="plain"):
    import compatibility_modules  # noqa: F401  (enters the rows of its own)
    from compatibility_networks import SITUATIONS
    from compatibility_tools import judge_pruned

    torch.manual_seed(0)
    return judge_pruned(SITUATIONS[name][1](), "torch-pruning", prune)


def cutting(choose):
    """A pruner of two convolutions that keeps the channels of the first that ``choose`` takes."""

    def prune(model, task, example):
        live = model.a.weight.abs().sum((1, 2, 3)) > 0
        keep = choose(live)
        model.a.weight, model.a.bias = nn.Parameter(model.a.weight[keep]), nn.Parameter(model.a.bias[keep])
        model.b.weight = nn.Parameter(model.b.weight[:, keep])
        return ""

    return prune


def test_the_page_is_what_was_measured():
    import compatibility

    results = json.loads(compatibility.RESULTS.read_text(encoding="utf-8"))
    assert compatibility.PAGE.read_text(encoding="utf-8") == compatibility.page(results)
    assert {(table, name) for table, rows in results["rows"].items() for name in rows} == {
        (table, name) for table, name, _, _ in compatibility.entries()
    }


def test_a_pruner_that_removes_live_channels_is_wrong():
    word, text = pruned_by(cutting(lambda live: ~live))
    assert word == "wrong"
    assert "outputs differ by" in text


def test_a_pruner_that_leaves_the_columns_behind_is_wrong():
    def rows_alone(model, task, example):
        columns = model.b.weight
        cutting(lambda live: live)(model, task, example)
        model.b.weight = columns

    assert pruned_by(rows_alone)[0] == "wrong"


def test_a_pruner_that_removes_dead_channels_alone_is_right_as_far_as_it_went():
    assert pruned_by(cutting(lambda live: live)) == ("part", "1 of 2 layers; left whole: b")
    assert pruned_by(lambda model, task, example: "") == ("whole", "nothing was removed")


def test_a_pruner_that_moves_a_buffer_is_wrong():
    def calls(model, task, example):
        model(example)
        return ""

    assert pruned_by(calls, "counter") == ("wrong", "the buffer `calls` went from [0.0] to [1.0]")


def test_a_tool_that_raises_on_purpose_refuses_and_one_that_breaks_stops():
    from compatibility_tools import failed

    from secateur import UserError

    assert failed(UserError("no such layer"), "secateur") == ("refused", "no such layer")
    assert failed(ValueError("no such layer"), "secateur") == ("stops", "ValueError: no such layer")

    def breaks(model, task, example):
        raise ValueError("from elsewhere")

    assert pruned_by(breaks) == ("stops", "ValueError: from elsewhere")


def attacked_by(attack, name="plain"):
    import compatibility_data  # noqa: F401  (enters the rows of its own)
    from compatibility_attackers import judge_attacked
    from compatibility_attacks import THREATS

    return judge_attacked(THREATS[name][2], "foolbox", "pgd", attack)


def exact(t, x, y, attack):
    """The steepest step of a linear network with two classes."""
    w = t.model.net[1].weight.detach()
    direction = (w[1 - y] - w[y]).sign().view_as(x)
    return (x + t.eps * direction).clamp(0, 1), None


def test_an_exact_attack_works_and_weaker_ones_are_counted():
    assert attacked_by(exact) == ("works", "")
    word, text = attacked_by(lambda t, x, y, attack: (x, None))
    assert word == "wrong"
    assert text.startswith("finds 0 of ")


def test_a_success_that_is_none_is_wrong_even_where_all_others_are_some():
    everything = torch.ones(40, dtype=torch.bool)
    assert attacked_by(lambda t, x, y, attack: (exact(t, x, y, attack)[0], everything))[1].startswith(
        "claims 40"
    )


def test_examples_beyond_the_size_or_outside_the_box_do_not_count():
    far = attacked_by(lambda t, x, y, attack: (x + 3 * (exact(t, x, y, attack)[0] - x), None))
    assert far[1].startswith("finds 0 of ")


def test_what_makes_no_sense_must_be_refused():
    assert attacked_by(exact, "eps 8")[0] == "wrong"


def test_a_cell_that_does_not_end_hangs(monkeypatch):
    import compatibility

    monkeypatch.setattr(compatibility, "LIMIT", 0.1)
    assert compatibility.alone(time.sleep, 5)[0] == "hangs"


def test_a_mistake_in_a_row_is_no_verdict():
    import compatibility

    with pytest.raises(RuntimeError, match="the row itself"):
        compatibility.alone(lambda: 1 / 0)
