"""Attention: heads keep equal widths, or go as wholes, and modules hold the new numbers."""

import pytest
import torch
from torch import nn

import secateur
from graph.attention import ATTENTION, Literal, Transformer
from graph.networks import images
from secateur.graph import propagation
from secateur.graph.labels import Factor


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.5, 0.3])
@pytest.mark.parametrize("kind", sorted(ATTENTION))
def test_transformers_are_pruned_at_any_sparsity(kind, sparsity):
    torch.manual_seed(0)
    net = Transformer(kind).eval()
    dense = count(net)
    report = secateur.prune(net, images(), sparsity=sparsity)
    assert report.max_error <= 1e-10
    assert report.gradient_error <= 1e-10
    assert not [note for note in report.notes if note.startswith("not pruned")]
    # Small widths round up to whole heads: 24 channels in 4 heads of 6 leave 20, not 16.8, at 0.3.
    assert count(net) / dense <= (1 - sparsity) ** 2 + (0.25 if sparsity == 0.3 else 0.06)
    assert report.changed_by_design
    assert net.train()(images()).shape == (2, 5)


def test_heads_keep_equal_widths_and_attributes_say_so():
    torch.manual_seed(0)
    net = Transformer("literal").eval()
    secateur.prune(net, images(), sparsity=0.5)
    attention = net.blocks[0]["attention"]
    assert (attention.num_heads, attention.head_size, attention.all_size) == (4, 3, 12)
    assert attention.q.out_features == attention.out.in_features == 12


def test_torchs_attention_says_what_it_is():
    torch.manual_seed(0)
    net = Transformer("torch").eval()
    secateur.prune(net, images(), sparsity=0.5)
    attention = net.blocks[1]["attention"].attention
    assert (attention.embed_dim, attention.head_dim, attention.num_heads) == (12, 3, 4)


@pytest.mark.slow
def test_a_plan_with_repaired_attributes_replays_and_comes_back(tmp_path):
    def factory():
        torch.manual_seed(0)
        return Transformer("literal").eval()

    net = factory()
    report = secateur.prune(net, images(), sparsity=0.3)
    assert report.plan.repairs
    fresh = factory()
    plan = secateur.pruning.Plan.from_json(report.plan.to_json())
    secateur.apply(fresh, plan, verify=False)
    assert torch.equal(fresh(images()), net(images()))
    secateur.save(net, tmp_path / "net")
    assert torch.equal(secateur.load(tmp_path / "net", factory).eval()(images()), net(images()))


def test_the_groups_of_a_packed_projection_have_names_of_their_own():
    graph = secateur.trace(Transformer("packed").eval(), images())
    names = [group.name for group in graph.groups]
    assert len(set(names)) == len(names)
    packed = [name for name in names if name.startswith("blocks.0.attention.qkv.weight[0]")]
    assert packed == ["blocks.0.attention.qkv.weight[0]", "blocks.0.attention.qkv.weight[0]#2"]
    assert [graph[name].members[0].indices[0] for name in packed] == [0, 48]


def transformer(kind, depth=2):
    torch.manual_seed(0)
    return Transformer(kind, depth=depth).eval()


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(ATTENTION))
def test_half_of_the_heads_go_with_all_their_channels(kind):
    net = transformer(kind)
    report = secateur.prune(net, images(), sparsity=0.5, heads="whole")
    assert report.max_error <= 1e-10
    assert report.gradient_error <= 1e-10
    assert not [note for note in report.notes if note.startswith("not pruned")]
    # Heads do not change when others go: only the layer norms of the stream see fewer channels.
    assert all("norm" in place for place in report.changed_by_design)
    assert net.train()(images()).shape == (2, 5)


@pytest.mark.slow
def test_attributes_say_how_many_heads_are_left():
    literal, torchs = transformer("literal"), transformer("torch")
    for net in (literal, torchs):
        secateur.prune(net, images(), sparsity=0.5, heads="whole")
    own, theirs = literal.blocks[0]["attention"], torchs.blocks[0]["attention"].attention
    assert (own.num_heads, own.head_size, own.all_size) == (2, 6, 12)
    assert (theirs.num_heads, theirs.head_dim, theirs.embed_dim) == (2, 6, 12)


def test_what_goes_are_the_rows_of_heads():
    plan = secateur.plan(secateur.trace(transformer("packed"), images(), heads="whole"), sparsity=0.5)
    gone = plan.removed()["blocks.0.attention.qkv.weight", 0]
    places = [[index % 24 for index in gone if index // 24 == part] for part in range(3)]
    assert places[0] == places[1] == places[2]
    assert {index // 6 for index in places[0]} == {index // 6 for index in places[0][::6]}
    assert len(places[0]) == 12


def test_such_a_plan_replays_and_is_proved_on_a_fresh_network():
    report = secateur.prune(transformer("literal"), images(), sparsity=0.5, heads="whole")
    plan = secateur.pruning.Plan.from_json(report.plan.to_json())
    assert plan.heads == "whole"
    assert secateur.apply(transformer("literal"), plan).max_error <= 1e-10


@pytest.mark.slow
def test_a_head_that_would_leave_channels_behind_is_caught(monkeypatch):
    def first_channel(atoms, factor):
        return Factor(factor.atoms.take([0], factor.column), factor.rows[-1])

    monkeypatch.setattr(propagation, "as_wholes", first_channel)
    net = transformer("literal")
    report = secateur.prune(net, images(), sparsity=0.5, heads="whole")
    assert [note for note in report.notes if note.startswith("not pruned") and "attention" in note]
    assert net.blocks[0]["attention"].num_heads == 4


class Fixed(Literal):
    """The number of heads is written in the code."""

    def split(self, x):
        return x.view(x.shape[0], -1, 4, x.shape[-1] // 4).transpose(1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "sparsity"), [("fixed", 0.5), ("torch", 0.3)])
def test_heads_stay_where_code_counts_them_or_ties_them_to_the_stream(kind, sparsity, monkeypatch):
    monkeypatch.setitem(ATTENTION, "fixed", Fixed)
    report = secateur.prune(transformer(kind, depth=1), images(), sparsity=sparsity, heads="whole")
    assert [note for note in report.notes if note.startswith("not pruned") and "attention" in note]
    assert report.max_error <= 1e-10


def test_asking_for_heads_where_there_are_none_is_refused():
    with pytest.raises(secateur.UserError, match="no attention with several heads"):
        secateur.trace(
            nn.Sequential(nn.Flatten(), nn.Linear(432, 4), nn.Linear(4, 2)), images(), heads="whole"
        )
    with pytest.raises(secateur.UserError, match="unknown heads 'half'"):
        secateur.trace(transformer("packed"), images(), heads="half")
