import pytest
import torch
from torch import nn

from secateur import models
from secateur.errors import UserError
from secateur.models import accuracy, build, eval_mode, initialise, logits, predict, weights_hash


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Odd(nn.Module):
    """Parameters outside any known layer."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.scale = nn.Parameter(torch.full((4,), 0.1))
        self.mix = nn.Parameter(torch.rand(4, 4))
        self.norm = nn.GroupNorm(2, 4)


@pytest.mark.parametrize("make", [lambda: build("resnet-tiny"), lambda: build("smallcnn"), Odd])
def test_the_same_generator_gives_the_same_weights_whatever_they_were(make):
    first, second = make(), make()
    with torch.no_grad():
        for parameter in second.parameters():
            if torch.unique(parameter).numel() > 1:
                parameter.add_(1)
    initialise(first, seeded())
    initialise(second, seeded())
    assert weights_hash(first) == weights_hash(second)
    initialise(second, seeded(1))
    assert weights_hash(first) != weights_hash(second)


def test_initialising_neither_uses_nor_changes_the_global_random_state():
    model, before = build("resnet-tiny"), torch.get_rng_state()
    initialise(model, seeded())
    build("resnet-tiny")
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_keep_the_scale_of_the_signal():
    model = build("resnet18")
    initialise(model, seeded())
    weight = model.get_submodule("layer3.1.conv1").weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert weight.mean().abs() < 1e-3


def test_initialising_resets_running_statistics():
    model = build("resnet-tiny")
    model(torch.rand(4, 1, 8, 8, generator=seeded()))
    initialise(model, seeded())
    assert model.get_buffer("bn1.running_mean").abs().max() == 0
    assert model.get_buffer("bn1.num_batches_tracked") == 0


def test_constant_parameters_of_unknown_layers_keep_their_value():
    model = Odd()
    initialise(model, seeded())
    assert (model.token == 0).all()
    assert torch.equal(model.scale, torch.full((4,), 0.1))


def test_a_changed_weight_or_buffer_changes_the_hash():
    model = build("resnet-tiny")
    before = weights_hash(model)
    model.get_buffer("bn1.running_mean")[0] += 1
    changed = weights_hash(model)
    assert changed != before
    with torch.no_grad():
        bias = model.get_parameter("linear.bias")
        bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    assert weights_hash(model) not in {before, changed}


def test_memory_format_and_gradients_do_not_change_the_hash():
    model = build("resnet-tiny")
    before = weights_hash(model)
    model.to(memory_format=torch.channels_last).requires_grad_(False)
    assert weights_hash(model) == before


def test_a_hash_without_buffers_would_be_noticed(monkeypatch):
    monkeypatch.setattr(nn.Module, "named_buffers", lambda self, **_: iter(()))
    with pytest.raises(AssertionError):
        test_a_changed_weight_or_buffer_changes_the_hash()


def test_predictions_do_not_depend_on_the_batch_size():
    model, x = build("resnet-tiny"), torch.rand(37, 1, 8, 8, generator=seeded())
    whole = logits(model, x)
    assert torch.allclose(logits(model, x, batch_size=5), whole, atol=1e-5)
    assert torch.equal(predict(model, x, batch_size=1), whole.argmax(1))
    assert accuracy(model, x, whole.argmax(1)) == 1.0


def test_predicting_leaves_modes_buffers_and_gradients_alone():
    model = build("resnet-tiny").train()
    model.get_submodule("layer1").eval()
    before = weights_hash(model)
    predict(model, torch.rand(4, 1, 8, 8, generator=seeded()))
    assert model.training
    assert not model.get_submodule("layer1").training
    assert weights_hash(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_modes_are_restored_after_an_error():
    model = build("resnet-tiny").train()
    with pytest.raises(RuntimeError), eval_mode(model):
        model(torch.zeros(1, 3, 8, 8))
    assert model.training


def test_predicting_in_training_mode_would_be_noticed(monkeypatch):
    monkeypatch.setattr(nn.Module, "eval", lambda self: self)
    with pytest.raises(AssertionError):
        test_predicting_leaves_modes_buffers_and_gradients_alone()


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return self.what(x)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda x: (x, x), "returns tuple"),
        (lambda x: x.flatten(1)[:, :1], "logits \\[2, classes\\]"),
        (lambda x: x, "logits \\[2, classes\\]"),
        (lambda x: x.flatten(1)[:1], "logits \\[2, classes\\]"),
        (lambda x: x.flatten(1) * float("nan"), "returns NaN"),
    ],
)
def test_what_is_no_classifier_is_refused(what, said):
    with pytest.raises(UserError, match=said):
        predict(Returns(what), torch.rand(2, 1, 2, 2, generator=seeded()))


def test_a_batch_on_a_cpu_is_small_unless_it_is_chosen():
    seen = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    accuracy(model, torch.rand(300, 1, 2, 2), torch.zeros(300, dtype=torch.int64))
    assert seen == [128, 128, 44]
    predict(model, torch.rand(300, 1, 2, 2), batch_size=512)
    assert seen[3:] == [300]


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(UserError, match="batch size"):
        predict(build("resnet-tiny"), torch.zeros(1, 1, 8, 8), batch_size=0)


def test_not_finite_outputs_are_a_kind_of_user_error():
    assert issubclass(models.NotFinite, UserError)
