"""``run``: what is attacked, counted, verified and left alone."""

import json
import math

import pytest
import torch
from torch import nn

from secateur.attacks import Found, Outcome, run
from secateur.attacks.core.norms import distance
from secateur.errors import UserError
from secateur.registry import ATTACKS

ALL = [("ddn", {}), *(("fmn", {"norm": p}) for p in (0.0, 1.0, 2.0, math.inf))]


def fool(net, result, images):
    with torch.no_grad():
        return net(result.adv).argmax(1) != images.y


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "settings"), ALL)
def test_what_is_reported_found_fools_the_model_and_has_the_distance_it_says(net, images, name, settings):
    result = run(net, images, name, steps=40, **settings)
    found = result.where(Outcome.FOUND)
    assert found.sum() == 40
    assert torch.equal(fool(net, result, images) & ~result.ori_success, found)
    for p, key in ((0.0, "l0"), (1.0, "l1"), (2.0, "l2"), (math.inf, "linf")):
        measured = distance(result.adv.double() - images.x.double(), p)
        torch.testing.assert_close(result.distances[key][found], measured[found])
        assert (result.best_optim_distances[key] <= result.distances[key] + 1e-6).all()


def test_images_that_are_already_wrong_are_not_attacked(net, images):
    result = run(net, images, "ddn", steps=5)
    wrong = result.where(Outcome.ALREADY_WRONG)
    assert wrong.nonzero().squeeze(1).tolist() == list(range(0, 48, 6))
    assert (result.distance[wrong] == 0).all()
    assert (result.forwards[wrong] == 0).all()
    assert torch.equal(result.adv[wrong], images.x[wrong])


def test_all_images_wrong_from_the_start_is_an_answer(net, images):
    result = run(net, images.take(range(0, 48, 6)), "fmn", steps=5)
    assert set(result.outcome) == {Outcome.ALREADY_WRONG}
    assert result.to_json()["ASR"] == 1.0


def test_passes_are_counted_per_image(net, images):
    result = run(net, images, "fmn", steps=7, batch_size=13)
    attacked = ~result.ori_success
    assert (result.forwards[attacked] == 8).all()
    assert (result.backwards[attacked] == 7).all()
    assert len(result.times) == 4


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "settings"), ALL)
def test_the_batch_size_changes_no_result(net, images, name, settings):
    images = images.take(range(8))
    whole = run(net, images, name, steps=20, **settings)
    for batch_size in (1, 5, 1000):
        other = run(net, images, name, steps=20, batch_size=batch_size, **settings)
        assert other.outcome == whole.outcome
        torch.testing.assert_close(other.distance, whole.distance, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "settings"), ALL)
def test_the_same_run_gives_the_same_bits(net, images, name, settings):
    first, second = (run(net, images, name, steps=20, seed=3, **settings) for _ in range(2))
    assert torch.equal(first.adv, second.adv)
    one, two = first.to_json(), second.to_json()
    del one["times"], two["times"]
    assert json.dumps(one) == json.dumps(two)


def test_the_model_and_the_images_are_left_as_they_were(net, images):
    net.train()
    net.drop.eval()
    net.conv.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    pixels = images.x.clone()
    run(net, images, "ddn", steps=5)
    assert net.training
    assert net.bn.training
    assert not net.drop.training
    assert [p.requires_grad for p in net.parameters()][:3] == [False, True, True]
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert torch.equal(pixels, images.x)
    assert not images.x.requires_grad


def test_a_model_in_training_mode_is_attacked_in_evaluation_mode(net, images):
    expected = run(net, images, "ddn", steps=10)
    assert torch.equal(run(net.train(), images, "ddn", steps=10).adv, expected.adv)


def test_ddn_uses_the_grey_levels_of_the_dataset_unless_told_otherwise(net, images):
    grid = run(net, images, "ddn", steps=30).adv * 16
    torch.testing.assert_close(grid, grid.round(), atol=1e-4, rtol=0)
    free = run(net, images, "ddn", steps=30, levels=None).adv * 16
    assert (free - free.round()).abs().max() > 0.1


def test_progress_rises_to_the_total(net, images):
    seen = []
    run(
        net,
        images,
        "ddn",
        steps=10,
        batch_size=10,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (400, 400)


def test_a_double_precision_model_is_attacked_in_double_precision(net, images):
    result = run(net.double(), images, "fmn", steps=10)
    assert result.where(Outcome.FOUND).any()
    assert result.adv.dtype == torch.float32


def test_memory_format_and_gradient_flags_of_the_images_change_nothing(net, images):
    expected = run(net, images, "fmn", norm=1, steps=10)
    strided = images.take(range(48))
    object.__setattr__(
        strided, "x", images.x.expand(48, 1, 4, 4).contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(run(net, strided, "fmn", norm=1, steps=10).distance, expected.distance)


def test_the_json_has_attackbench_s_fields_and_only_finite_numbers(net, images):
    stubborn = nn.Sequential(net, nn.Threshold(1e9, 0.0))
    result = run(stubborn, images.take([0, 1, 2]), "ddn", steps=3)
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert {
        "hashes",
        "targeted",
        "accuracy",
        "ori_success",
        "adv_success",
        "ASR",
        "times",
        "num_forwards",
        "num_backwards",
        "distances",
        "best_optim_distances",
        "box_failures",
        "batch_failures",
        "outcome",
    } <= set(plain)
    assert set(plain["distances"]) == {"l0", "l1", "l2", "linf"}
    for outcome, value in zip(plain["outcome"], plain["distances"]["l2"], strict=True):
        assert (value is None) == (outcome == "not_found")
    assert len(plain["hashes"][0]) == 128


def test_targets_are_reached_and_counted_as_such(net, images):
    targets = (images.y + 1) % 3
    result = run(net, images, "fmn", norm=2, steps=60, targets=targets)
    found = result.where(Outcome.FOUND)
    assert found.any()
    with torch.no_grad():
        assert torch.equal(net(result.adv[found]).argmax(1), targets[found])
    assert result.to_json()["targeted"]


# What an attack claims is never believed: these are the claims of broken ones.


def returns_clean_images(model, x, y):
    return Found(
        x, torch.ones_like(y, dtype=torch.bool), torch.zeros_like(y, dtype=torch.bool), x.new_zeros(len(x))
    )


def leaves_the_box(model, x, y):
    adv = x + 100 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return Found(
        adv, torch.ones_like(y, dtype=torch.bool), torch.zeros_like(y, dtype=torch.bool), x.new_zeros(len(x))
    )


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS._entries))
    monkeypatch.setattr(ATTACKS, "_objects", dict(ATTACKS._objects))
    for attack in (returns_clean_images, leaves_the_box):
        ATTACKS.register(attack.__name__, attack, norms=(2.0,), kind="minimum-norm")


@pytest.mark.usefixtures("planted")
def test_clean_images_are_not_found_whatever_the_attack_says(net, images):
    result = run(net, images, "returns_clean_images")
    assert set(result.outcome) == {Outcome.ALREADY_WRONG, Outcome.NOT_FOUND}
    assert result.unverified.sum() == 40
    assert torch.isinf(result.distance[result.where(Outcome.NOT_FOUND)]).all()


@pytest.mark.usefixtures("planted")
def test_examples_outside_the_box_are_noted_and_clipped_before_they_count(net, images):
    result = run(net, images, "leaves_the_box")
    assert result.box_failures.sum() == 40
    assert result.adv.min() >= 0
    assert result.adv.max() <= 1
    assert torch.equal(fool(net, result, images) & ~result.ori_success, result.where(Outcome.FOUND))


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("dnn", {}, "unknown attack 'dnn'"),
        ("ddn", {"stepz": 5}, "has no setting 'stepz'"),
        ("ddn", {"generator": None}, "has no setting 'generator'"),
        ("ddn", {"norm": 1}, "has no norm 1"),
        ("fmn", {"norm": 3}, "no norm '3'"),
        ("ddn", {"steps": 0}, "steps is 0"),
        ("ddn", {"gamma": 1.0}, "gamma is 1.0"),
        ("ddn", {"alpha": 0.0}, "alpha is 0.0"),
        ("ddn", {"levels": 1}, "levels is 1"),
        ("ddn", {"schedule": "linear"}, "unknown schedule"),
        ("fmn", {"gamma_final": 2.0}, "gamma_final is 2.0"),
        ("ddn", {"batch_size": 0}, "batch size is 0"),
        ("ddn", {"seed": -1}, "seed is -1"),
    ],
)
def test_a_wrong_setting_is_one_sentence(net, images, name, settings, said):
    with pytest.raises(UserError, match=said):
        run(net, images, name, **settings)


def test_a_target_that_is_the_label_is_refused(net, images):
    with pytest.raises(UserError, match="the target of image 0 is its own label"):
        run(net, images, "ddn", targets=images.y)


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: (x.flatten(1), x.flatten(1)), "several may be its logits"),
        (lambda x: "cat", "answered 2 images with a str"),
        (lambda x: x, "not with one row of logits per image"),
        (lambda x: x.flatten(1) * math.nan, "logits are not finite"),
        (lambda x: x.flatten(1)[:, :2], "is beyond the model's 2 classes"),
        (lambda x: x.detach().flatten(1), "carry no gradient"),
    ],
)
def test_a_model_that_breaks_its_contract_is_one_sentence(images, answer, said):
    with pytest.raises(UserError, match=said):
        run(Answers(answer), images, "ddn", steps=2)


@pytest.mark.parametrize("batch_size", [100, 2])
def test_an_image_whose_logits_are_not_finite_is_named(net, images, batch_size):
    def overflowing(x):
        # The corner of one image gives it away, in whichever batch it stands.
        mine = (x == images.x[5]).flatten(1).all(1, keepdim=True)
        return torch.where(mine, math.inf, net(x))

    with pytest.raises(
        UserError, match=r"not finite for 1 of .* the first is number 5 of those that are attacked, counting"
    ):
        run(Answers(overflowing), images, "ddn", steps=2, batch_size=batch_size)


class Cut(torch.autograd.Function):
    """As a quantised layer: what comes after has a graph that never reaches the images."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fmn", {"steps": 3}),
        ("pgd", {"eps": 0.1, "steps": 3}),
        ("fgsm", {"eps": 0.1}),
        ("steep", {"steps": 9}),
    ],
)
def test_a_graph_that_does_not_reach_the_images_is_one_sentence(net, images, name, settings):
    cut = Answers(lambda x: net(Cut.apply(x)))
    with pytest.raises(UserError, match="carry no gradient to its input"):
        run(cut, images, name, **settings)
    run(cut, images, "square", eps=0.1, steps=3)
