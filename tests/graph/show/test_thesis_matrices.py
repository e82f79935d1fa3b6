"""The thesis' objects on its own examples: layers with f⁻ and f⁺, the matrices D and G, the picture."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from torch import nn

import secateur
from graph.attention import Recurrent
from graph.networks import build, images
from secateur.graph.flops import macs


def chain():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(384, 2)
    )


def sides(graph):
    return {layer.name: (2 * n, 2 * n + 1) for n, layer in enumerate(graph.layers)}


def test_layers_are_what_ran():
    layers = secateur.trace(chain(), images()).layers
    assert [layer.name for layer in layers] == ["0", "1", "2", "3", "5"]
    assert [layer.kind for layer in layers] == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "Linear"]
    assert [layer.coupled for layer in layers] == [False, True, True, False, False]
    assert [layer.sources for layer in layers] == [(), (0,), (1,), (2,), (3,)]


def test_d_has_inter_and_intra_layer_dependencies():
    graph = secateur.trace(chain(), images())
    d, at = graph.dependency_matrix(), sides(graph)
    assert d.shape == (10, 10)
    assert np.array_equal(d, d.T)
    assert d[at["0"][1], at["1"][0]]
    assert d[at["1"][0], at["1"][1]]
    assert not d[at["0"][0], at["0"][1]]
    assert d.sum() == 2 * (4 + 2)


def test_g_is_the_closure_of_d():
    graph = secateur.trace(chain(), images())
    g, at = graph.grouping_matrix(), sides(graph)
    assert g.diagonal().all()
    assert g[at["0"][1], at["3"][0]]
    assert not g[at["0"][1], at["3"][1]]
    assert not g[at["0"][0], at["0"][1]]
    assert np.array_equal(g, (g.astype(int) @ g.astype(int)) > 0)


def test_a_residual_block_puts_both_branches_into_one_group():
    graph = secateur.trace(build(["residual"], "batch", "relu", "linear"), images())
    g, at = graph.grouping_matrix(), sides(graph)
    assert g[at["body.0.0"][1], at["body.1.second.0"][1]]
    assert g[at["body.0.0"][1], at["head"][0]]
    assert not g[at["body.0.0"][1], at["body.1.first.0"][1]]


def test_a_concatenation_depends_on_both_of_its_inputs():
    graph = secateur.trace(build(["concat", "plain"], "batch", "relu", "linear"), images())
    d, at = graph.dependency_matrix(), sides(graph)
    cat = next(name for name in at if name.endswith("cat"))
    left = next(name for name in at if name.startswith("body.1.left.2"))
    right = next(name for name in at if name.startswith("body.1.right.2"))
    assert d[at[left][1], at[cat][0]]
    assert d[at[right][1], at[cat][0]]
    assert d[at[cat][0], at[cat][1]]


@pytest.mark.parametrize("net", [chain(), build(["residual", "dense"], "group", "gelu", "norm")])
def test_the_picture_is_an_svg_with_every_layer(net, tmp_path):
    graph = secateur.trace(net, images())
    text = graph.draw(str(tmp_path / "graph.svg"))
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == text
    root = ET.fromstring(text)
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [f"{layer.name} ({layer.kind})" for layer in graph.layers]


def test_the_explanation_says_what_can_go_and_why_the_rest_stays():
    graph = secateur.trace(chain(), images())
    text = graph.explain()
    assert "group 0: 0.weight[0], 4 channels" in text
    assert "is read by dimension 1 of 5.weight[:, 0:384], 64 indices per channel" in text
    assert "is an output of the model" in text
    data = graph.to_json()
    assert [group["channels"] for group in data["groups"]] == [4, 6]
    assert data["parameters"] == sum(p.numel() for p in graph.model.parameters())
    assert 0 < data["prunable_parameters"] <= data["parameters"]


def test_the_share_that_can_be_pruned_is_that_of_the_traced_network():
    model = chain()
    graph = secateur.trace(model, images())
    before = graph.explain().splitlines()[0]
    secateur.apply(model, secateur.plan(graph, sparsity=0.5))
    assert graph.explain().splitlines()[0] == before


class Beside(nn.Module):
    """A hidden layer, and a second path that leads straight from the images to the logits."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.direct = nn.Linear(432, 8), nn.Linear(8, 5), nn.Linear(432, 5)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(self.body(x).relu()) + self.direct(x)


def test_the_share_of_multiply_adds_that_can_go_is_counted_by_hand():
    graph = secateur.trace(Beside(), images())
    gone, total = 2 * (432 * 8 + 8 * 5), 2 * (432 * 8 + 8 * 5 + 432 * 5)
    assert (graph.to_json()["prunable_macs"], graph.to_json()["macs"]) == (gone, total)
    assert f"{gone:,} of {total:,} ({gone / total:.1%}) multiply-adds" in graph.explain()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_multiply_adds_of_recurrent_layers_are_counted_before_and_after(kind):
    net = Recurrent(kind, 2, True).eval()
    graph = secateur.trace(net, images())
    report = secateur.apply(net, secateur.plan(graph, sparsity=0.5), verify=False)
    assert report.macs_after == macs(secateur.trace(net, images()).tape) < report.macs_before
    part, total = graph.to_json()["prunable_macs"], graph.to_json()["macs"]
    assert total - report.macs_after < part <= total == report.macs_before


def test_slices_of_a_group_are_written_as_slices():
    graph = secateur.trace(build(["dense"], "batch", "relu", "linear"), images())
    text = graph.explain()
    assert "is produced by dimension 0 of body.1.left.0.weight[0:6]" in text
    assert "is read by dimension 1 of head.weight[:, 6:14]" in text


def test_sides_that_cannot_be_pruned_are_grey_and_groups_have_colours_of_their_own():
    net = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(20)))
    text = secateur.trace(net, images()).draw()
    root = ET.fromstring(text)
    fills = [box.get("fill") for box in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    images_side, logits_side = fills[0], fills[-1]
    assert (images_side, logits_side) == ("#f0f0f0", "#c9c9c9")
    assert len(set(fills)) == 2 + 19
