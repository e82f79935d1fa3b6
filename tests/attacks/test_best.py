"""The bookkeeping that all attack loops share keeps the nearest query that fooled, and nothing else."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from secateur.attacks.core import best as module
from secateur.attacks.core.batch import check_batch
from secateur.attacks.core.best import BestAdversarial
from secateur.errors import UserError


@pytest.fixture
def model():
    """Says class 1 where the first pixel exceeds one half."""
    made = nn.Linear(2, 2)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        made.bias.copy_(torch.tensor([0.5, 0.0]))
    return made


def asked(model, *queries, labels=(0, 0)):
    x = torch.tensor([[0.2, 0.2], [0.2, 0.2]])
    kept = BestAdversarial(model, check_batch(x, torch.tensor(labels), None, (0.0, 1.0)), 2.0)
    for query in queries:
        kept.query(torch.tensor(query), gradient=False)
    return kept.found()


def test_the_nearest_query_that_fools_is_kept_per_image(model):
    far, near = [[0.9, 0.2], [0.7, 0.2]], [[0.6, 0.2], [0.8, 0.2]]
    found = asked(model, [[0.2, 0.2]] * 2, far, near, [[0.3, 0.2]] * 2)
    torch.testing.assert_close(found.adv, torch.tensor([[0.6, 0.2], [0.7, 0.2]]))
    torch.testing.assert_close(found.distance, torch.tensor([0.4, 0.5]))
    assert found.mask.all()


def test_what_never_fools_is_not_found_and_what_was_wrong_stays_so(model):
    found = asked(model, [[0.2, 0.2]] * 2, [[0.3, 0.2]] * 2, labels=(0, 1))
    assert not found.mask.any()
    assert found.already_wrong.tolist() == [False, True]
    assert found.distance.tolist() == [float("inf"), 0.0]


def test_a_first_query_away_from_the_clean_image_says_nothing_about_it(model):
    found = asked(model, [[0.9, 0.2]] * 2)
    assert not found.already_wrong.any()
    assert found.mask.all()


def test_a_bookkeeper_that_keeps_the_last_success_is_seen(model, monkeypatch):
    monkeypatch.setattr(module, "distance", lambda delta, p: torch.zeros(len(delta)))
    with pytest.raises(AssertionError):
        test_the_nearest_query_that_fools_is_kept_per_image(model)


class Stopping(nn.Module):
    """A model whose second image is no longer under attack after the first query."""

    def __init__(self, model):
        super().__init__()
        self.model, self.active = model, torch.tensor([True, True])

    def forward_active(self, x):
        logits = self.model(x) * self.active.unsqueeze(1)
        self.active = torch.tensor([True, False])
        return logits


def check_stopped(model):
    far, near = [[0.9, 0.2], [0.9, 0.2]], [[0.6, 0.2], [0.6, 0.2]]
    found = asked(Stopping(model), far, near)
    torch.testing.assert_close(found.distance, torch.tensor([0.4, 0.7]))


def test_an_image_that_is_no_longer_active_keeps_what_it_has(model):
    check_stopped(model)


def test_a_bookkeeper_that_ignores_the_mask_is_seen(model, monkeypatch):
    ones = torch.ones(2, dtype=torch.bool)
    monkeypatch.setattr(module, "query_active", lambda model, x: (model.model(x), ones))
    with pytest.raises(AssertionError):
        check_stopped(model)


def test_all_images_of_a_plain_model_are_active(model):
    x = torch.zeros(2, 2)
    logits, active = module.query_active(model, x)
    assert torch.equal(logits, model(x))
    assert active.all()


def test_logits_without_a_graph_are_refused_when_a_gradient_is_wanted():
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach()

    problem = check_batch(torch.zeros(1, 2), torch.tensor([0]), None, (0.0, 1.0))
    kept = BestAdversarial(Cut(), problem, 2.0)
    kept.query(problem.x, gradient=False)
    with pytest.raises(UserError, match="carry no gradient"):
        kept.query(problem.x.clone(), gradient=True)


@pytest.mark.slow
@pytest.mark.kernels
def test_a_first_attack_does_not_load_torchs_symbolic_mathematics():
    code = (
        "import sys, torch\n"
        "from torch import nn\n"
        "from secateur.attacks import run\n"
        "from secateur.data import Dataset\n"
        "net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()\n"
        "x = torch.rand(8, 1, 8, 8)\n"
        "data = Dataset('drawn', x, net(x).argmax(1), classes=tuple('abcd'), levels=None)\n"
        "for name in ('ddn', 'fmn', 'steep'):\n"
        "    run(net, data, name, steps=10)\n"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
