"""A whole check of networks that answer with something else than logits, or in another precision."""

from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from secateur import data, models, pruning
from secateur.decision import check, comparing, pruned
from secateur.decision.handed import handed
from secateur.errors import UserError
from secateur.recipes import Distillation, Recipe

Pair = namedtuple("Pair", "features logits")


@dataclass
class Record:
    logits: torch.Tensor
    loss: None = None


class Answering(nn.Module):
    """A trained network whose logits are part of its answer."""

    def __init__(self, answer):
        super().__init__()
        self.net, self.answer = models.resolve("shipped:digits-plain"), answer

    def forward(self, x):
        return self.answer(self.net(x), x)


def below_five(z):
    """The log-odds of the digits from 5 against those below."""
    return z[:, 5:].logsumexp(1) - z[:, :5].logsumexp(1)


ANSWERS = {
    "dictionary": (lambda z, x: {"features": x.flatten(1), "logits": z}, {}),
    "tuple": (lambda z, x: (z, x), {}),
    "named tuple": (lambda z, x: Pair(x.flatten(1), z), {}),
    "record": (lambda z, x: Record(z), {}),
    "a key": (lambda z, x: {"a": z.flip(1), "b": z}, {"logits": "b"}),
    "an index": (lambda z, x: (z.flip(1), z), {"logits": 1}),
    "a function": (lambda z, x: {"halves": (z / 2, z / 2)}, {"logits": lambda given: sum(given["halves"])}),
    "maps": (lambda z, x: z[:, :, None, None], {}),
}
NUMBERS = {
    "one logit": lambda z, x: below_five(z),
    "a column": lambda z, x: below_five(z)[:, None],
    "one probability": lambda z, x: below_five(z).sigmoid(),
}


@pytest.fixture
def checked(digits, monkeypatch):
    """A whole check of a second or two."""
    monkeypatch.setattr(comparing, "SECONDS", 0.01)

    def call(model, images=digits, **options):
        recipe = Recipe(epochs=1, learning_rate=0.01, recalibrate=True, distillation=Distillation())
        options = {"recipe": recipe, "images": 12, "steps": 5, "budgets": {"linf": [0.02]}, **options}
        return check(model.eval(), *images, sparsity=0.2, **options)

    return call


@pytest.fixture
def plain(checked):
    return checked(models.resolve("shipped:digits-plain"))


@pytest.mark.slow
@pytest.mark.parametrize("how", ANSWERS)
def test_the_verdict_is_that_of_the_same_network_which_answers_with_logits(how, checked, plain):
    answer, options = ANSWERS[how]
    verdict = checked(Answering(answer), **options)
    for key in ("accuracy", "robust linf 0.02", "parameters", "macs"):
        ours, theirs = plain.line(key), verdict.line(key)
        assert (ours.dense, ours.pruned) == (theirs.dense, theirs.pruned), key
    # The pruned network answers as the one that was handed over.
    shown = verdict.model(torch.rand(2, 1, 8, 8))
    assert type(shown) is type(answer(torch.zeros(2, 10), torch.rand(2, 1, 8, 8)))


@pytest.mark.slow
@pytest.mark.parametrize("how", NUMBERS)
def test_one_number_per_image_is_a_network_of_two_classes(how, checked, digits):
    halves = [
        data.Dataset("halves", part.x, (part.y >= 5).long(), ("low", "high"), levels=17) for part in digits
    ]
    verdict = checked(Answering(NUMBERS[how]), halves)
    assert verdict.line("accuracy").dense > 0.95
    assert verdict.line("accuracy").pruned > 0.6
    assert any("one number" in said or "one probability" in said for said in verdict.notes)
    assert verdict.model(torch.rand(3, 1, 8, 8)).shape == ((3, 1) if how == "a column" else (3,))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_another_precision_is_tuned_in_float32_and_comes_back(kind, checked, tmp_path, monkeypatch):
    seen = []
    fit = pruned.fit

    def watched(model, *args, teacher, **options):
        seen.extend(each.dtype for net in (model, teacher) for each in net.parameters())
        return fit(model, *args, teacher=teacher, **options)

    monkeypatch.setattr(pruned, "fit", watched)
    build = lambda: models.resolve("shipped:digits-plain").to(kind)  # noqa: E731
    verdict = checked(build(), out=tmp_path / "out")
    assert set(seen) == {torch.float32}
    assert {each.dtype for each in verdict.model.parameters()} == {kind}
    assert verdict.line("accuracy").dense > 0.9
    assert verdict.line("accuracy").pruned > 0.6
    assert any("pruned and fine-tuned in float32" in said for said in verdict.notes)
    loaded = pruning.load(tmp_path / "out" / "network", build)
    assert models.weights_hash(loaded) == models.weights_hash(verdict.model)
    again = checked(build(), out=tmp_path / "out")
    assert again.line("accuracy") == verdict.line("accuracy")


def test_a_network_converted_after_pruning_is_saved_and_loaded(tmp_path):
    model = models.resolve("shipped:digits-plain").eval()
    pruning.prune(model, torch.rand(1, 1, 8, 8), sparsity=0.2)
    pruning.save(model.bfloat16(), tmp_path / "half")
    build = lambda: models.resolve("shipped:digits-plain")  # noqa: E731
    assert models.weights_hash(pruning.load(tmp_path / "half", build)) == models.weights_hash(model)


def test_what_cannot_be_pruned_is_one_sentence(checked, digits):
    net = models.resolve("shipped:digits-plain").eval()
    for model, words in (
        (SimpleNamespace(eval=lambda: lambda x: net(x)), "the model is a function"),
        (
            SimpleNamespace(eval=lambda: torch.export.export(net, (torch.rand(2, 1, 8, 8),)).module()),
            "an exported or frozen network",
        ),
    ):
        with pytest.raises(UserError, match=f"{words}.*not pruned") as caught:
            checked(model)
        assert "\n" not in str(caught.value)


def test_a_network_of_logits_in_float32_is_used_as_it_is(digits):
    net = models.resolve("shipped:digits-plain").eval()
    found = handed(net, digits[1].x, data="digits")
    assert found.asked is found.working is found.taught is net
    assert found.said == ()
