"""What cannot be traced is refused in one sentence."""

import pytest
import torch
from torch import nn

import secateur
from graph.networks import build, images
from secateur.errors import UserError


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(432, 4)

    def forward(self, x):
        return self.layer(torch.nn.functional.dropout(x.flatten(1), 0.5, training=True))


def test_a_model_that_is_random_in_eval_is_refused():
    with pytest.raises(UserError, match=r"random in eval mode.*test_validation.py"):
        secateur.trace(Dropping(), images())


@pytest.mark.parametrize(
    "x", [torch.rand(2, 4, 12, 12), torch.rand(3), (images(), images()), {"y": images()}]
)
def test_inputs_that_do_not_fit_are_refused_in_one_sentence(x):
    with pytest.raises(UserError, match="fails on the example inputs") as caught:
        secateur.trace(build(["plain"], "batch", "relu", "flatten"), x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("thing", [3, "resnet18", build])
def test_what_is_no_module_is_refused(thing):
    with pytest.raises(UserError, match=r"expected a torch\.nn\.Module"):
        secateur.trace(thing, images())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_inputs_without_a_range_are_refused(number):
    x = images()
    x[0, 0, 0, 0] = number
    with pytest.raises(UserError, match="holds NaN or infinity"):
        secateur.trace(build(["plain"], "batch", "relu", "linear"), x)


def test_a_proof_on_no_sample_at_all_is_refused():
    with pytest.raises(UserError, match=r"shape \(0, 3, 12, 12\) holds no numbers"):
        secateur.prune(build(["plain"], "batch", "relu", "linear"), images()[:0], sparsity=0.5)


def test_a_model_without_numbers_is_refused():
    with pytest.raises(UserError, match="lies on the meta device"):
        secateur.trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)).to("meta"), torch.rand(2, 4))
