"""Attention keeps equal heads at any sparsity."""

import pytest
import torch

import secateur
from graph.attention import ATTENTION, Transformer
from graph.networks import images


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


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
