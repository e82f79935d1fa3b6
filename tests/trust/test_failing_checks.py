"""Checks that cannot run: what the attack found is kept, and the grade says what is unknown."""

import copy

import pytest
import torch
from torch import nn

from secateur import trust
from secateur.attacks import run
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.evaluate import attack
from secateur.trust import audit, checks
from secateur.trust.check import guarded
from trust.test_grading import Net, failing, labelled


@pytest.fixture(scope="module")
def net():
    return Net().eval()


@pytest.fixture(scope="module")
def images(net):
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return labelled(
        net, Dataset("planted", x, torch.zeros(40, dtype=torch.int64), ("a", "b", "c", "d"), None)
    )


@pytest.fixture(scope="module")
def honest(net, images):
    return run(net, images, "ddn", steps=150)


class Wrapped(nn.Module):
    def __init__(self, net, answer):
        super().__init__()
        self.net, self.answer = net, answer

    def forward(self, x):
        return self.answer(self.net, x)


def squeezed(net, x):
    """Loses the dimension of a batch of one."""
    return net(x).squeeze(0)


def fixed(net, x):
    """Knows the size of its batch, as an exported network does."""
    return net(x).reshape(40, 4)


def breaking():
    """Answers at first, and then no more."""
    left = [4]

    def answer(net, x):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("broken")
        return net(x)

    return answer


def by_hand(net, x):
    """In doubled precision from the middle on."""
    features = torch.tanh(net.first(x.flatten(1) - 0.5)).double()
    return nn.functional.linear(
        features,
        net.second.weight.double(),
        net.second.bias.double(),
    )


def sentences(grade):
    return {check.id: check.sentence for check in grade.checks if not check.passed}


def test_a_network_that_answers_no_single_image_keeps_its_numbers(net, images):
    model = Wrapped(net, squeezed)
    seen = attack(model, images, "fmn", norm=2.0, steps=60)
    honest = run(net, images, "fmn", norm=2.0, steps=60)
    assert torch.equal(seen.result.distance, honest.distance)
    assert seen.grade.letter == "B"
    said = sentences(seen.grade)
    assert set(said) == {"F01", "F07"}
    assert said["F07"] == "this check could not run: UserError: the model returned (4,) for 1 images"


def test_doubled_precision_at_the_end_is_as_good_as_any(net, images):
    result = run(net, images, "fmn", norm=2.0, steps=200)
    assert trust.grade(Wrapped(net, by_hand), images, result).reasons == []


def test_where_most_checks_cannot_run_the_grade_is_c(net, images):
    result = run(net, images, "fmn", norm=2.0, steps=10)
    graded = trust.grade(Wrapped(net, breaking()), images, result)
    assert graded.letter == "C"
    assert "F01: this check could not run: RuntimeError" in graded.reasons[0]


def test_a_network_of_a_fixed_batch_size_is_graded_like_any_other(net, images):
    result = run(net, images, "fmn", norm=2.0, steps=60)
    graded = trust.grade(Wrapped(net, fixed), images, result)
    assert graded.reasons == trust.grade(net, images, result).reasons


TABLES = (checks.ALWAYS, checks.ALWAYS_WIDE, checks.MINIMUM, checks.MINIMUM_WIDE)


@pytest.mark.slow
@pytest.mark.parametrize("id", [id for table in TABLES for id in table])
def test_whatever_check_raises_the_result_is_graded(net, images, honest, monkeypatch, id):
    def raises(_):
        raise ValueError("no such thing\nat all")

    monkeypatch.setitem(next(table for table in TABLES if id in table), id, raises)
    graded = trust.grade(net, images, honest)
    assert graded.letter == "B"
    assert sentences(graded) == {id: "this check could not run: ValueError: no such thing"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError(), "RuntimeError"),
        (AssertionError("x" * 500), "AssertionError: " + "x" * 183 + "…"),
        (StopIteration(), "StopIteration"),
        (MemoryError(), "memory ran out"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "memory ran out"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory ran out"),
    ],
)
def test_whatever_is_raised_becomes_one_line(error, said):
    def raises():
        raise error

    check = guarded("F01", raises)
    assert (check.passed, check.severity, check.ran) == (False, "warn", False)
    assert check.sentence == f"this check could not run: {said}"


def test_an_interrupt_is_not_swallowed():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded("F01", stop)


@pytest.mark.slow
@pytest.mark.parametrize("id", list(audit.AUDIT))
def test_a_costly_check_that_raises_takes_the_place_of_the_cheap_one(net, images, honest, monkeypatch, id):
    def raises(_):
        raise RuntimeError("no")

    monkeypatch.setattr("secateur.trust.grading.AUDIT", {id: raises})
    graded = trust.grade(net, images, honest, audit=True)
    assert sentences(graded)[id] == "this check could not run: RuntimeError: no"
    assert graded.letter == "B"


@pytest.mark.slow
def test_checks_ask_in_batches_that_fitted_when_the_attack_ran(net, images):
    def small(net, x):
        if len(x) > 8:
            raise torch.OutOfMemoryError("too many images")
        return net(x)

    model = Wrapped(net, small)
    assert attack(model, images, "ddn", steps=150).grade.letter == "A"


class Cut(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: x.clone())
    backward = staticmethod(lambda ctx, gradient: None)


class Refuses(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: x.clone())

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("no derivative is implemented")


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        lambda net, x: net(x).detach(),
        lambda net, x: net(x.detach()),
        lambda net, x: net(Cut.apply(x)),
        lambda net, x: net(Refuses.apply(x)),
        lambda net, x: nn.functional.one_hot(net(x).argmax(1), 4),
        lambda net, x: nn.functional.one_hot(net(x).argmax(1), 4).to(torch.int8),
        lambda net, x: net(x.detach()) * nn.Parameter(torch.ones(4)),
        lambda net, x: torch.no_grad()(net)(x),
        lambda net, x: torch.inference_mode()(net)(x),
    ],
)
@pytest.mark.parametrize("name", ["fmn", "square"])
def test_models_without_usable_gradients_end_in_a_sentence(net, images, answer, name):
    settings = {"norm": 2.0} if name == "fmn" else {"eps": 0.2}
    result = run(net, images, name, steps=20, **settings)
    model = Wrapped(net, answer)
    graded = trust.grade(model, labelled(net, images), result)
    assert graded.letter == "C"
    assert {"F05", "F06"} <= failing(graded)


@pytest.mark.parametrize(
    ("answer", "logits"),
    [
        (lambda net, x: (net(x),), None),
        (lambda net, x: {"logits": net(x)}, None),
        (lambda net, x: [net(x), -net(x)], 0),
        (lambda net, x: net(x).T, lambda answer: answer.T),
    ],
)
def test_logits_inside_another_answer_are_graded(net, images, honest, answer, logits):
    graded = trust.grade(Wrapped(net, answer), images, honest, logits=logits)
    assert graded.reasons == trust.grade(net, images, honest).reasons


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_gradient_of_a_network_in_half_precision_is_not_called_wrong(net, images, dtype):
    coarse = copy.deepcopy(net).to(dtype)
    found = {check.id: check for check in attack(coarse, images, "fmn", norm=2.0, steps=60).grade.checks}
    assert found["F06"].severity == "warn"
    assert "too coarse" in found["F06"].sentence or found["F06"].passed


def test_an_answer_without_logits_cannot_be_graded(net, images, honest):
    with pytest.raises(UserError, match="the classes themselves"):
        trust.grade(Wrapped(net, lambda net, x: net(x).argmax(1)), images, honest)


def test_logits_that_are_not_finite_end_in_a_grade(net, images):
    result = run(net, images, "ddn", steps=5)
    for value in (float("nan"), float("inf")):
        graded = trust.grade(Wrapped(net, lambda net, x, v=value: net(x) * v), images, result)
        assert graded.letter == "C"


def test_the_numbers_of_the_attack_are_all_kept(net, images):
    seen = attack(Wrapped(net, squeezed), images, "ddn", steps=10)
    plain = seen.to_json(timings=False)
    assert len(plain["distances"]["l2"]) == images.n
    assert plain["summary"]["found"] == images.n
    assert plain["summary"]["median_correct"]["l2"] > 0
