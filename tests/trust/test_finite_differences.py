"""F06: a wrong gradient is seen behind any kind of output, and a right one is not blamed for its scale."""

import pytest
import torch
from torch import nn

from secateur import trust
from secateur.attacks import run
from secateur.data import Dataset
from trust.test_grading import Net, failing, labelled

ENDS = {
    "logits": lambda z: z,
    "log-softmax": lambda z: z.log_softmax(1),
    "softmax": lambda z: z.softmax(1),
    "a sure softmax": lambda z: (4 * z).softmax(1),
    "sigmoid": lambda z: (z / 5).sigmoid(),
    "tiny logits": lambda z: 1e-6 * z,
    "huge logits": lambda z: 1e6 * z,
    "logits with an offset": lambda z: z + 30,
    "doubled precision": torch.Tensor.double,
}


class Ended(nn.Module):
    def __init__(self, net, end):
        super().__init__()
        self.net, self.end = net, end

    def forward(self, x):
        return self.end(self.net(x))


class Detached(nn.Module):
    """Two branches; the gradient is that of one of them alone."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        half = x.clone()
        half[..., :4] = x[..., :4].detach()
        return self.net(x).detach() + 0.3 * self.net(half) - 0.3 * self.net(half).detach()


class StraightThrough(nn.Module):
    """Rounds its images to a coarse grid and pretends not to."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x + ((4 * x).round() / 4 - x).detach())


@pytest.fixture(scope="module")
def net():
    return Net().eval()


@pytest.fixture(scope="module")
def images(net):
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(40, dtype=torch.int64)
    return labelled(net, Dataset("planted", x, y, ("a", "b", "c", "d"), None))


@pytest.fixture(scope="module")
def found(net, images):
    return run(net, images, "fmn", norm=2.0, steps=100)


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_right_gradients_agree_with_finite_differences(net, images, found, end):
    graded = trust.grade(Ended(net, end), images, found)
    assert "F06" not in failing(graded), graded.reasons


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("wrong", [Detached, StraightThrough])
def test_wrong_gradients_are_seen_behind_every_end(net, images, found, wrong, end):
    model = Ended(wrong(net), end)
    graded = trust.grade(model, labelled(model, images), found)
    assert "F06" in failing(graded)
    assert graded.letter == "C"


@pytest.mark.slow
def test_a_softmax_with_the_distances_of_its_logits_is_no_worse_than_a_warning(net, images):
    model = Ended(net, ENDS["softmax"])
    own, logits = (run(each, images, "fmn", norm=2.0, steps=300) for each in (model, net))
    assert own.distance.median() == pytest.approx(logits.distance.median().item(), rel=0.02)
    graded = trust.grade(model, images, own)
    # Near the boundary a probability has fewer digits than its logits: an example may be lost, which warns.
    assert "F04" in failing(graded) <= {"F01", "F04"}
    assert graded.letter == "B"


def test_answers_with_too_few_digits_are_said_to_be_too_coarse(net, images, found):
    graded = trust.grade(Ended(net, torch.Tensor.half), images, found)
    (check,) = [check for check in graded.checks if check.id == "F06"]
    assert (check.passed, check.severity) == (False, "warn")
    assert "too coarse to compare" in check.sentence


class Blurred(nn.Module):
    """Single images are answered with other last digits than batches."""

    def __init__(self, net, size):
        super().__init__()
        self.net, self.size = net, size

    def forward(self, x):
        logits = self.net(x)
        if len(x) > 1:
            return logits
        return logits + self.size * nn.functional.one_hot(logits.argsort(1)[:, -2], 4)


@pytest.mark.parametrize(("size", "severity"), [(3e-3, "warn"), (0.5, "fail")])
def test_examples_lost_by_rounding_warn_and_by_more_condemn(net, images, found, size, severity):
    graded = trust.grade(Blurred(net, size), images, found)
    (check,) = [check for check in graded.checks if check.id == "F01"]
    assert (check.passed, check.severity) == (False, severity)
