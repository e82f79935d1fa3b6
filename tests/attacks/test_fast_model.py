"""A faster way to ask the model may cost nothing: not a wrong example, not a lost one, not another batch."""

import copy
import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from secateur.attacks import Outcome, pgd, run
from secateur.attacks.runner import fast_model
from secateur.attacks.runner.fast_model import tf32_matmul
from secateur.cpu.batchnorm_folding import fold_candidates
from secateur.errors import ExitCode, UserError
from secateur.evaluate import attack
from secateur.registry import ATTACKS
from secateur.run_options import RunOptions

ALL = [("ddn", {}), *(("fmn", {"norm": p}) for p in (0.0, 1.0, 2.0, math.inf))]


def fooled(net, result, images):
    with torch.no_grad():
        return (net(result.adv).argmax(1) != images.y) & ~result.ori_success


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "settings"), ALL)
def test_folding_and_memory_format_change_no_number_beyond_rounding(net, images, name, settings):
    fast = run(net, images, name, steps=30, **settings)
    plain = run(net, images, name, steps=30, options=RunOptions.original(), **settings)
    assert fast.search["folded"] == 1
    assert fast.search["channels_last"]
    assert (plain.search["folded"], plain.search["channels_last"]) == (0, False)
    assert fast.outcome == plain.outcome
    torch.testing.assert_close(fast.distance, plain.distance, rtol=1e-3, atol=1e-5)
    assert torch.equal(fast.forwards, plain.forwards)


class Twice(nn.Module):
    """What a convolution answers is normalised, and used beside that."""

    def __init__(self, net, *, seen=True):
        super().__init__()
        self.net, self.seen = net, seen

    def forward(self, x):
        raw = self.net.conv(x)
        # Outside the graph of the gradients nobody sees who reads it.
        beside = raw if self.seen else raw.detach()
        return self.net.head(torch.relu(self.net.bn(raw) + beside).flatten(1))


def labelled(model, images):
    with torch.no_grad():
        return replace(images, y=model(images.x).argmax(1))


@pytest.mark.parametrize("seen", [True, False])
def test_a_convolution_that_others_read_is_not_folded(net, images, seen):
    model = Twice(net, seen=seen).eval()
    assert len(fold_candidates(model, images.x[:2])) == (0 if seen else 1)
    result = run(model, labelled(model, images), "ddn", steps=20)
    assert result.search["folded"] == 0


def test_a_wrong_folding_that_slipped_through_would_invent_nothing_and_lose_nothing(net, images, monkeypatch):
    model = Twice(net, seen=False).eval()
    data = labelled(model, images)
    expected = run(model, data, "ddn", steps=20)
    monkeypatch.setattr(fast_model, "_alike", lambda *_: True)
    broken = run(model, data, "ddn", steps=20)
    assert broken.search["folded"] == 1
    assert torch.equal(fooled(model, broken, data), broken.where(Outcome.FOUND))
    assert broken.search["mended"] > 0
    assert not broken.unverified.any()
    assert broken.where(Outcome.FOUND).sum() >= 0.9 * expected.where(Outcome.FOUND).sum()


class Shared(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
        self.again = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        once = self.net.bn(self.net.conv(x))
        return self.net.head(torch.relu(self.net.bn(self.again(once))).flatten(1))


def test_a_normalisation_that_is_called_twice_is_not_folded(net, images):
    model = Shared(net).eval()
    assert run(model, labelled(model, images), "ddn", steps=3).search["folded"] == 0


def test_modules_with_hooks_or_parametrisations_are_left_alone(net, images):
    handle = net.bn.register_forward_hook(lambda module, x, y: 2 * y)
    assert run(net, labelled(net, images), "ddn", steps=3).search["folded"] == 0
    handle.remove()
    torch.nn.utils.parametrizations.weight_norm(net.conv)
    assert run(net, labelled(net, images), "ddn", steps=3).search["folded"] == 0


def test_a_model_that_cannot_be_copied_is_searched_as_it_is(net, images):
    class Stubborn(type(net)):
        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    model = Stubborn()
    model.load_state_dict(net.state_dict())
    result = run(model.eval(), images, "ddn", steps=5)
    assert (result.search["folded"], result.search["channels_last"]) == (0, False)
    assert result.where(Outcome.FOUND).any()


def test_wide_convolutions_keep_their_memory_format_on_a_cpu(images):
    wide = nn.Sequential(nn.Conv2d(1, 65, 3), nn.ReLU(), nn.Flatten(), nn.Linear(65 * 4, 3)).eval()
    data = labelled(wide, images)
    assert not run(wide, data, "ddn", steps=2).search["channels_last"]
    assert run(wide, data, "ddn", steps=2, options=RunOptions(channels_last=True)).search["channels_last"]


def test_images_of_one_channel_are_handed_over_in_the_memory_format_too():
    # Their strides would pass for either; every operation between the two formats is many times slower.
    convolution = nn.Conv2d(1, 4, 3)
    fast = fast_model._Converted(convolution, channels_last=True, precision="float32")
    assert not convolution(torch.rand(2, 1, 6, 6)).is_contiguous(memory_format=torch.channels_last)
    assert fast(torch.rand(2, 1, 6, 6)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "settings"), ALL)
def test_what_a_rounded_search_finds_fools_in_full_precision(net, images, name, settings):
    rounded = run(net, images, name, steps=40, options=RunOptions(search_precision="bfloat16"), **settings)
    full = run(net, images, name, steps=40, **settings)
    found = rounded.where(Outcome.FOUND)
    assert rounded.outcome == full.outcome
    assert torch.equal(fooled(net, rounded, images), found)
    assert not rounded.unverified.any()
    assert rounded.distance[found].mean() <= 1.2 * full.distance[found].mean()
    if name == "ddn":
        grid = rounded.adv * 16
        torch.testing.assert_close(grid, grid.round(), atol=1e-4, rtol=0)


def test_without_mending_a_rounded_search_would_lose_examples(net, images, monkeypatch):
    home = sys.modules["secateur.attacks.runner.run"]  # the package's attribute of that name is the function
    monkeypatch.setattr(home, "reverify", lambda model, batch, found, *_, **__: found)
    lossy = run(net, images, "fmn", norm=2, steps=40, options=RunOptions(search_precision="bfloat16"))
    assert lossy.unverified.any()


def test_a_rounded_search_of_fixed_size_keeps_the_size(net, images):
    settings = {"norm": math.inf, "eps": 0.2, "steps": 20}
    rounded = run(net, images, "pgd", options=RunOptions(search_precision="bfloat16"), **settings)
    assert rounded.distance[rounded.where(Outcome.FOUND)].max() <= 0.2 + 1e-6
    assert torch.equal(fooled(net, rounded, images), rounded.where(Outcome.FOUND))


def test_switches_of_the_gpu_are_as_before_afterwards():
    matmul = torch.backends.cuda.matmul
    name = "fp32_precision" if hasattr(matmul, "fp32_precision") else "allow_tf32"
    values = {"fp32_precision": ("ieee", "tf32"), "allow_tf32": (False, True)}[name]
    before = getattr(matmul, name)
    with tf32_matmul("tf32"):
        assert getattr(matmul, name) == values[1]
        with tf32_matmul("float32"):
            assert getattr(matmul, name) == values[0]
        assert getattr(matmul, name) == values[1]
    assert getattr(matmul, name) == before


def test_an_unknown_precision_is_one_sentence(net, images):
    with pytest.raises(UserError, match="no search precision 'float8'"):
        attack(net, images, "ddn", steps=2, search_precision="float8")


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "settings"), ALL)
def test_early_stopping_saves_passes_and_loses_no_example(net, images, name, settings):
    whole = run(net, images, name, steps=150, **settings)
    early = run(net, images, name, steps=150, options=RunOptions(early_stop=True), **settings)
    attacked = ~whole.ori_success
    assert early.outcome == whole.outcome
    assert (early.forwards <= whole.forwards).all()
    assert early.forwards[attacked].mean() < 0.9 * whole.forwards[attacked].mean()
    # It is no gift: on this network of 16 pixels medians grow by up to a fifth, which is why it is off.
    assert (early.distance[attacked] >= whole.distance[attacked] * (1 - 1e-5)).all()
    assert early.distance[attacked].median() <= 1.25 * whole.distance[attacked].median()
    assert torch.equal(fooled(net, early, images), early.where(Outcome.FOUND))


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "settings"), [("ddn", {}), ("fmn", {"norm": 1.0}), ("pgd", {"eps": 0.3})])
def test_early_stopping_does_not_look_at_the_batch(net, images, name, settings):
    early = RunOptions(early_stop=True)
    whole = run(net, images, name, steps=80, options=early, **settings)
    parts = run(net, images, name, steps=80, options=early, batch_size=29, **settings)
    assert parts.outcome == whole.outcome
    torch.testing.assert_close(parts.distance, whole.distance, rtol=1e-3, atol=1e-5)
    # An image may leave a query sooner or later where a gain is at the edge of counting.
    assert (parts.forwards - whole.forwards).abs().max() <= 16


def test_an_image_that_an_attack_of_fixed_size_has_fooled_is_not_asked_again(net, images):
    asked = []

    class Watched(nn.Module):
        def forward(self, x):
            asked.append(len(x))
            return net(x)

    result = run(Watched(), images, "pgd", eps=0.9, steps=60, options=RunOptions(early_stop=True))
    found = result.where(Outcome.FOUND)
    assert found.any()
    assert result.forwards[found].median() < 20
    assert result.forwards[found].max() < 40
    whole = run(net, images, "pgd", eps=0.9, steps=60)
    assert result.outcome == whole.outcome
    assert 0 < min(asked) < 40


def test_an_attack_that_knows_no_mask_is_answered_truly_to_its_end(net, images, monkeypatch):
    asked = []

    def repeated(model, x, y, *, eps, bounds, generator):
        found = pgd(net, x, y, eps=eps, steps=20)
        asked.extend(torch.equal(model(found.adv), net(found.adv)) for _ in range(30))
        return found

    monkeypatch.setattr(ATTACKS, "get", lambda name: repeated)
    result = run(net, images, "pgd", eps=0.9, options=replace(RunOptions.original(), early_stop=True))
    assert len(asked) == 30
    assert all(asked)
    assert (result.forwards[~result.ori_success] == 30).all()


@pytest.mark.slow
@pytest.mark.kernels
def test_batches_are_halved_until_they_fit_and_nothing_changes(net, images):
    for shortage in (MemoryError(), torch.OutOfMemoryError("full"), RuntimeError("can't allocate memory: 9")):

        class Tight(nn.Module):
            def forward(self, x, shortage=shortage):
                if len(x) > 13:
                    raise shortage
                return net(x)

        result = run(Tight(), images, "fmn", norm=2, steps=10)
        assert result.search["batch_size"] == 12
        assert result.search["out_of_memory"] == 2
        expected = run(Tight(), images, "fmn", norm=2, steps=10, batch_size=12)
        assert torch.equal(result.adv, expected.adv)
        assert result.to_json() == {**expected.to_json(), "times": result.times}


def test_one_image_that_does_not_fit_is_the_environment_s_fault(images):
    class Huge(nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("full")

    with pytest.raises(UserError, match="not enough memory for a batch of one") as error:
        run(Huge(), images, "ddn", steps=2)
    assert error.value.code == ExitCode.ENVIRONMENT


class Broken(nn.Module):
    """Raises from the given call on."""

    def __init__(self, call):
        super().__init__()
        self.left = call

    def forward(self, x):
        self.left -= 1
        if self.left <= 0:
            raise RuntimeError("shapes do not match")
        return x.flatten(1)


def test_a_model_that_fails_from_the_start_does_not_fit_the_images(images):
    said = r"fails on the images of tiny, which are 1x4x4 \(.*\): RuntimeError: shapes do not match"
    with pytest.raises(UserError, match=said):
        run(Broken(1), images, "ddn", steps=2)


def test_later_errors_of_a_model_are_its_own(images):
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(Broken(5), images, "ddn", steps=2)


def test_a_model_that_cannot_be_compiled_is_one_sentence(net, images, monkeypatch):
    def refuses(model):
        def call(x):
            raise RuntimeError("no compiler\nat all")

        return call

    monkeypatch.setattr(torch, "compile", refuses)
    with pytest.raises(UserError, match="cannot be compiled: RuntimeError: no compiler"):
        attack(net, images, "ddn", steps=2, compile=True)


def test_compiling_is_of_the_faster_model_and_changes_no_number(net, images, monkeypatch):
    given = []

    def compiles(model):
        given.append(model)
        return lambda x: model(x)

    # The real one needs half a minute and a C++ compiler.
    monkeypatch.setattr(torch, "compile", compiles)
    expected = run(net, images, "fmn", norm=2, steps=20)
    compiled = run(net, images, "fmn", norm=2, steps=20, options=RunOptions(compile=True))
    assert compiled.search == {**expected.search, "compiled": True}
    assert torch.equal(compiled.adv, expected.adv)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in given[0].modules())


def test_the_model_searched_is_a_copy(net, images):
    before = copy.deepcopy(net.state_dict())
    strides = net.conv.weight.stride()
    run(net, images, "ddn", steps=3)
    assert isinstance(net.bn, nn.BatchNorm2d)
    assert net.conv.weight.stride() == strides
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
