"""What people hand over as a network is attacked like the plain network inside it, or refused in words."""

import copy
import functools
import math
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from secateur import attack, trust
from secateur.attacks import Outcome, another_class, fmn, run
from secateur.attacks.runner.classifier import Classifier, classifier
from secateur.attacks.runner.modules import networks_of
from secateur.data import Dataset
from secateur.errors import UserError


class Answers(nn.Module):
    """A network with another answer."""

    def __init__(self, net, answer):
        super().__init__()
        self.net, self.answer = net, answer

    def forward(self, x):
        return self.answer(self.net, x)


def outcomes(model, images, **settings):
    """The distances and the clean predictions of a short attack."""
    result = run(model, images, "fmn", norm=2.0, steps=20, **settings)
    return result.distance, result.ori_success


def alike(model, net, images, **settings):
    """Whether ``model`` is attacked as ``net`` is, to the rounding of float32."""
    for one, other in zip(outcomes(model, images, **settings), outcomes(net, images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    return True


@dataclass
class Output:
    loss: object
    logits: torch.Tensor


Named = namedtuple("Named", "features scores")

ANSWERS = {
    "a dictionary": (lambda net, x: {"hidden": x, "logits": net(x)}, None),
    "a data class": (lambda net, x: Output(None, net(x)), None),
    "a tuple of one": (lambda net, x: (net(x),), None),
    "the only rows": (lambda net, x: Named(x, net(x)), None),
    "nested": (lambda net, x: {"out": (net(x), x)}, None),
    "by name": (lambda net, x: Named(x.flatten(1), net(x)), "scores"),
    "by place": (lambda net, x: [x.flatten(1), net(x)], 1),
    "by a function": (
        lambda net, x: {"a": net(x) / 2, "b": net(x) / 2},
        lambda answer: answer["a"] + answer["b"],
    ),
    "fully convolutional": (lambda net, x: net(x)[:, :, None, None], None),
}


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("answer", "logits"), ANSWERS.values(), ids=ANSWERS)
def test_logits_inside_another_answer_are_found_or_named(net, images, answer, logits):
    assert alike(Answers(net, answer), net, images, logits=logits)


def test_what_was_taken_is_said(net, images):
    model = Answers(net, lambda net, x: {"hidden": x, "logits": net(x)})
    seen = attack(model, images, "fmn", norm=2.0, steps=5)
    assert seen.result.search["network"] == ["the network answers with hidden, logits: 'logits' is attacked"]
    assert "'logits' is attacked" in repr(seen)
    assert "network" not in run(net, images, "fmn", norm=2.0, steps=5).search


@pytest.mark.parametrize(
    ("answer", "logits", "said"),
    [
        (
            lambda net, x: (net(x), net(x)),
            None,
            r"0 \[2, 3\], 1 \[2, 3\]: several may be its logits .*logits=0",
        ),
        (lambda net, x: {"a": net(x)}, "b", "no output 'b' .*its outputs are: a"),
        (lambda net, x: {"a": x, "b": None}, None, r"answered 2 images with a \[2, 1, 4, 4\].*logits=\.\.\."),
        (lambda net, x: None, None, "answered 2 images with a NoneType"),
        (lambda net, x: net(x).argmax(1), None, "the classes themselves .*argmax"),
        (lambda net, x: x, None, "not with one row of logits per image"),
        (lambda net, x: net(x)[0], None, r"answered 2 images with \[3\]"),
        (lambda net, x: net(x), lambda answer: answer["a"], "function logits fails .*: (Index|Type)Error"),
        (lambda net, x: net(x).exp().sum(), None, r"answered 2 images with \[\]"),
        (lambda net, x: net(x[:, :, :2]), None, "fails on the images of tiny, which are 1x4x4"),
    ],
)
def test_an_answer_without_logits_is_refused_in_one_sentence(net, images, answer, logits, said):
    for call in (run, attack):
        with pytest.raises(UserError, match=said) as caught:
            call(Answers(net, answer), images, "fmn", logits=logits)
        assert "\n" not in str(caught.value)


@pytest.fixture
def single():
    """A linear network with one number, images away from the box, and the right median distance."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    x = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    with torch.no_grad():
        net[1].bias -= net(x).median() - 1e-3
        z = net(x)[:, 0]
    images = Dataset("two", x, (z > 0).long(), ("no", "yes"), None)
    return net, images, (z.abs() / net[1].weight.detach().norm()).sort().values


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net,
        lambda net: nn.Sequential(net, nn.Flatten(0)),
        lambda net: nn.Sequential(net, nn.Sigmoid()),
        lambda net: Answers(net, lambda net, x: torch.sigmoid(net(x)).squeeze(1)),
        lambda net: Answers(net, lambda net, x: {"prob": torch.sigmoid(net(x))}),
    ],
)
def test_one_number_per_image_is_a_logit_or_the_end_of_a_sigmoid(single, wrap):
    net, images, right = single
    reached = run(wrap(net), images, "fmn", norm=2.0, steps=300).distance.sort().values
    # The attack stops just beyond the boundary, and a probability is known to its last digit only.
    torch.testing.assert_close(reached, right.double(), rtol=2e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.kernels
def test_one_number_from_0_to_1_without_a_sigmoid_is_ambiguous_and_can_be_named(single):
    net, images, right = single
    hidden = Answers(net, lambda net, x: 1 / (1 + (-net(x)).exp()))
    with pytest.raises(UserError, match=r"logits or probabilities.*logits=torch\.logit"):
        run(hidden, images, "fmn")
    reached = run(hidden, images, "fmn", norm=2.0, steps=300, logits=torch.logit).distance.sort().values
    torch.testing.assert_close(reached, right.double(), rtol=2e-3, atol=1e-4)


class Predictor:
    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net(x)

    def predict(self, x, scale=1):
        return scale * self.net(x)


CALLABLES = {
    "a lambda": lambda net: lambda x: net(x),
    "a bound method": lambda net: net.forward,
    "a partial": lambda net: functools.partial(Predictor(net).predict, scale=1),
    "an object": Predictor,
    "a method of an object": lambda net: Predictor(net).predict,
    "a function of a function": lambda net: functools.partial(lambda inner, x: inner(x), lambda x: net(x)),
    "a list of networks": lambda net: functools.partial(lambda nets, x: nets[0](x), [net]),
}


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("make", CALLABLES.values(), ids=CALLABLES)
def test_a_function_is_attacked_and_its_network_in_evaluation_mode_and_left_alone(net, images, make):
    trained = copy.deepcopy(net).train()
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    assert alike(make(trained), net, images)
    assert all(module.training for module in trained.modules())
    assert all(parameter.requires_grad for parameter in trained.parameters())
    assert all(torch.equal(before[key], value) for key, value in trained.state_dict().items())


GLOBAL = nn.Linear(2, 2)


def test_a_network_in_a_global_is_found():
    assert list(networks_of(lambda x: GLOBAL(x))) == [GLOBAL]
    assert list(networks_of(torch.sigmoid)) == []


def test_a_function_of_numpy_is_attacked_without_gradients(net, images):
    def answer(x):
        with torch.no_grad():
            return net(x).numpy()

    plain = run(net, images, "square", eps=0.2, steps=50)
    assert torch.equal(run(answer, images, "square", eps=0.2, steps=50).adv_success, plain.adv_success)
    with pytest.raises(UserError, match="carry no gradient"):
        run(answer, images, "fmn")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Linear, "the class Linear"),
        ("smallcnn", "of type str"),
        (None, "of type NoneType"),
        (3, "of type int"),
    ],
)
def test_what_is_no_network_is_said(images, model, said):
    with pytest.raises(UserError, match=f"the model is {said}, not a network"):
        attack(model, images)


def exported(net, images, **shapes):
    return torch.export.export(net, (images.x[:8],), **shapes).module()


FIXED = {
    "exported": lambda net, images: exported(net, images, dynamic_shapes=({0: torch.export.Dim("n")},)),
    "exported program": lambda net, images: torch.export.export(
        net, (images.x[:8],), dynamic_shapes=({0: torch.export.Dim("n")},)
    ),
    "exported for 8": exported,
    "part of another": lambda net, images: nn.Sequential(nn.Dropout(), exported(net, images)),
    "frozen": lambda net, images: torch.jit.freeze(torch.jit.script(net)),
    "scripted": lambda net, images: torch.jit.script(net),
    "traced by fx": lambda net, images: torch.fx.symbolic_trace(net),
}


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", FIXED.values(), ids=FIXED)
def test_networks_without_modes_are_attacked_as_they_are(net, images, make):
    images = images.take(range(20))
    model = make(net, images)
    assert alike(model, net, images)
    if isinstance(model, nn.Sequential):
        assert model[0].training


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("size", "settings"), [(1, {}), (7, {"batch_size": 7}), (48, {"batch_size": 48})])
def test_a_network_of_a_fixed_batch_size_gets_full_batches(net, images, size, settings):
    def only(net, x):
        if len(x) != size:
            raise RuntimeError(f"shape '[{size}, 1, 4, 4]' is invalid")
        return net(x)

    assert alike(Answers(net, only), net, images, **settings)
    result = run(Answers(net, only), images, "fmn", norm=2.0, steps=5, **settings)
    assert result.search["network"] == [f"the network takes batches of {size}: smaller ones are filled up"]


def mixed(net, dtype):
    model = nn.Module()
    model.scale = nn.Parameter(torch.ones(1, dtype=dtype), requires_grad=False)
    return Answers(nn.ModuleList([model, net]), lambda both, x: both[1](x) * both[0].scale.float())


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.float64, torch.bool])
def test_the_first_parameter_does_not_speak_for_the_others(net, images, dtype):
    assert alike(mixed(net, dtype), net, images)


def test_images_follow_the_parameters_that_see_them(net, images):
    double = copy.deepcopy(net).double()
    scaled = nn.ParameterList([nn.Parameter(torch.ones(1))])
    model = Answers(nn.ModuleList([scaled, double]), lambda both, x: both[1](x) * both[0][0])
    assert run(model, images, "fmn", norm=2.0, steps=20).adv.dtype == torch.float32
    assert classifier(model, images.x).ways.takes == torch.float64
    assert alike(model, net, images)
    hidden = copy.deepcopy(net).half()
    assert (
        classifier(functools.partial(lambda nets, x: nets(x), hidden), images.x).ways.takes == torch.float16
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_runs_in_autocast_is_attacked(channels):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)
        )

    def answer(net, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return net(x)

    model = Answers(net, answer).eval()
    x = torch.rand(12, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    images = Dataset("auto", x, model(x).argmax(1), tuple("abcd"))
    assert run(model, images, "fmn", norm=2.0, steps=40).adv_success.all()
    assert run(model, images, "pgd", eps=0.3, steps=5).n == 12


def subtracts(x):
    return x.sub_(0.3)


def clips(x):
    """Changes no image within the bounds."""
    return x.clamp_(0, 1) - 0.3


def unseen(x):
    """Writes where autograd does not look."""
    x.data.sub_(0.3)
    return x


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("name", ["square", "fmn"])
@pytest.mark.parametrize("shift", [subtracts, clips, unseen])
def test_a_network_that_writes_into_its_input_is_given_a_copy(net, images, name, shift):
    plain = Answers(net, lambda net, x: net(x - 0.3))
    settings = {"eps": 0.2, "steps": 50} if name == "square" else {"norm": 2.0, "steps": 20}
    before = images.x.clone()
    result = run(Answers(net, lambda net, x: net(shift(x))), images, name, **settings)
    torch.testing.assert_close(result.distance, run(plain, images, name, **settings).distance)
    assert result.search["network"] == ["the network writes into its input: it is given copies"]
    assert torch.equal(images.x, before)


def test_a_network_that_sets_itself_to_training_is_attacked_as_it_is():
    class Restless(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))

        def forward(self, x):
            self.f.train()
            return self.f(x)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Restless()
    x = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = net(x).argmax(1)
    images = Dataset("restless", x, y, tuple("abc"))
    net.eval()
    result = run(net, images, "fmn", norm=2.0, steps=5)
    assert result.search["folded"] == 0
    assert result.search["channels_last"] is False
    assert not any(module.training for module in net.modules())


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.bool])
def test_votes_in_whole_numbers_are_scores_without_a_gradient(net, images, kind):
    model = Answers(net, lambda net, x: nn.functional.one_hot(net(x).argmax(1), 3).to(kind))
    votes = Answers(net, lambda net, x: nn.functional.one_hot(net(x).argmax(1), 3).float())
    plain = run(votes, images, "square", eps=0.2, steps=50)
    assert torch.equal(run(model, images, "square", eps=0.2, steps=50).adv_success, plain.adv_success)
    with pytest.raises(UserError, match="carry no gradient"):
        run(model, images, "fmn")


def bfloat16():
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.filterwarnings("ignore")
def test_quantised_networks_are_attacked_without_gradients(net, images):
    model = torch.ao.quantization.quantize_dynamic(copy.deepcopy(net), {nn.Linear}, dtype=torch.qint8)
    assert attack(model, images, "square", eps=0.2, steps=20).result.n == 48
    for name, settings in (("fmn", {}), ("pgd", {"eps": 0.1})):
        with pytest.raises(UserError, match="carry no gradient"):
            attack(model, images, name, **settings)


def test_what_a_function_uses_is_said(net, images):
    told = [
        (lambda x: net(x), "the model is a function that uses 1 network, set to evaluation mode"),
        (
            lambda x: x.flatten(1),
            "the model is a function, in which no network was found: it is called as it is",
        ),
    ]
    for model, sentence in told:
        assert run(model, images, "noise", eps=0.1, norm=2.0).search["network"] == [sentence]


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, bfloat16])
def test_what_the_caller_switched_off_changes_nothing(net, images, context):
    expected = run(net, images, "fmn", norm=2.0, steps=20)
    grade = trust.grade(net, images, expected)
    with context():
        made = Dataset("tiny", images.x * 1, images.y * 1, images.classes, 17)
        result = run(net, made, "fmn", norm=2.0, steps=20)
        assert torch.equal(result.adv, expected.adv)
        assert trust.grade(net, images, result).reasons == grade.reasons
        assert attack(net, made, "pgd", eps=0.2, steps=5).result.n == 48
        if context is torch.inference_mode:
            with pytest.raises(UserError, match=r"built under inference_mode.*copy.deepcopy"):
                attack(copy.deepcopy(net), images, "fmn")


def test_a_plain_network_is_not_wrapped(net, images):
    assert classifier(net, images.x) is net
    assert classifier(net.double(), images.x) is net
    assert isinstance(classifier(lambda x: net(x), images.x), Classifier)


def test_images_of_any_container_are_attacked(net, images):
    expected = run(net, images, "fmn", norm=2.0, steps=10)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images.x, images.y), 7)
    for data in ((images.x, images.y), (images.x.numpy(), images.y.numpy().astype(np.uint8)), loader):
        assert torch.equal(attack(net, data, "fmn", norm=2.0, steps=10).result.adv, expected.adv)


def test_the_network_says_how_many_classes_there_are(net, images):
    few = images.take((images.y < 2).nonzero().squeeze(1))
    seen = attack(net, (few.x, few.y), "fmn", norm=2.0, steps=3, targets=2)
    assert seen.result.n == few.n
    with pytest.raises(UserError, match="label 5 is beyond the model's 3 classes"):
        attack(net, (few.x, torch.full((few.n,), 5)), "fmn")


def test_starting_points_come_from_what_is_handed_over(net, images):
    expected = another_class(net, images, count=2)
    model = Answers(net, lambda net, x: {"hidden": x, "logits": net(x)})
    assert torch.equal(another_class(model, (images.x, images.y), count=2), expected)


@pytest.mark.parametrize(
    "norm", ["Linf", "linf", "inf", "L_inf", np.inf, torch.tensor(math.inf), np.float32(np.inf)]
)
def test_a_norm_may_be_a_word_or_a_number_of_any_kind(net, images, norm):
    assert run(net, images, "fmn", norm=norm, steps=2).norm == math.inf


def test_the_functions_of_the_attacks_know_the_words_too(net, images):
    x, y = images.x[1:5], images.y[1:5]
    assert torch.equal(fmn(net, x, y, norm="Linf", steps=5).adv, fmn(net, x, y, norm=math.inf, steps=5).adv)
    with pytest.raises(UserError, match="no norm 'max' here"):
        fmn(net, x, y, norm="max")


@pytest.mark.slow
@pytest.mark.kernels
def test_settings_may_be_numbers_of_numpy_and_torch(net, images):
    expected = run(net, images, "pgd", norm=2.0, eps=0.25, steps=5, batch_size=7, seed=3)
    mine = run(
        net,
        images,
        "pgd",
        norm="L2",
        eps=np.float32(0.25),
        steps=torch.tensor(5),
        batch_size=np.int64(7),
        seed=np.uint8(3),
    )
    assert torch.equal(mine.adv, expected.adv)
    assert mine.to_json()["settings"] == expected.to_json()["settings"]
    assert attack(net, images, "pgd", norm=2, eps=[np.float64(0.25), torch.tensor(0.5)], steps=5).eps == (
        0.25,
        0.5,
    )


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        ("max", "no norm 'max' here .*Linf"),
        ("L3", "no norm 'L3'"),
        (3, "no norm '3'"),
        (True, "norm is True"),
        ([2], "norm is"),
    ],
)
def test_another_norm_is_refused(net, images, norm, said):
    with pytest.raises(UserError, match=said):
        run(net, images, "fmn", norm=norm)


def test_one_target_for_all_leaves_its_own_images_out(net, images):
    seen = attack(net, images, "fmn", norm=2.0, steps=20, targets=np.int64(2))
    kept = (images.y != 2).nonzero().squeeze(1)
    assert seen.facts["index"] == kept.tolist()
    expected = run(net, images.take(kept), "fmn", norm=2.0, steps=20, targets=[2] * len(kept))
    assert torch.equal(seen.result.adv, expected.adv)
    assert set(seen.result.classes[seen.result.where(Outcome.FOUND)].tolist()) == {2}


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (1, "target of image .* is its own label 1"),
        (7, "target 7 is beyond the model's 3 classes"),
        (-1, r"targets\[0\] is -1"),
        ([1, 2], "for 48 images"),
        ([0.5] * 48, "float32, not whole numbers"),
        ("cat", "targets is 'cat'"),
        (True, "targets is|not whole numbers"),
    ],
)
def test_targets_that_are_none_are_said(net, images, targets, said):
    with pytest.raises(UserError, match=said):
        run(net, images, "fmn", targets=targets)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("pgd", {"eps": 10**400}), ("pgd", {"eps": [0.1, 10**400]}), ("fmn", {"budgets": [10**400]})],
)
def test_numbers_beyond_every_float_are_said(net, images, name, settings):
    with pytest.raises(UserError, match=r"eps|budgets"):
        attack(net, images, name, norm="linf", steps=2, **settings)
