"""Saved networks come back as they were, and damaged ones are refused in one sentence."""

import copy
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

import secateur
from graph.networks import build, images
from secateur.errors import UserError


def factory():
    return build(["residual", "concat"], "batch", "relu", "flatten")


@pytest.fixture
def saved(tmp_path):
    net = factory()
    secateur.prune(net, images(), sparsity=0.5)
    with torch.no_grad():
        net.head[1].bias += 1.0
    secateur.save(net, tmp_path / "net", card="Trained on noise.")
    return net, tmp_path / "net"


def test_a_saved_network_comes_back(saved):
    net, folder = saved
    again = secateur.load(folder, factory).eval()
    assert torch.equal(again(images()), net(images()))
    assert (folder / "README.md").read_text().count("Trained on noise.") == 1


class Growing(torch.nn.Module):
    """A table that the class makes of the size of its inputs when it runs, and that no state dict holds."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.one, self.two, self.scale = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3), scale
        self.register_buffer("table", torch.zeros(1, 1), persistent=False)

    def forward(self, x):
        if self.table.shape[1] != x.shape[1]:
            self.table = self.scale * torch.arange(x.shape[1], dtype=x.dtype)[None]
        return self.two(self.one(x * self.table).relu())


@pytest.mark.parametrize("ran", ["before", "between", "never"])
def test_what_a_class_makes_when_it_runs_is_made_again(ran, tmp_path):
    torch.manual_seed(0)
    net, x = Growing().eval(), torch.rand(2, 6)
    if ran == "before":
        net(x)
    report = secateur.prune(net, x, sparsity=0.5)
    if ran == "between":
        net(x)
    secateur.save(net, tmp_path / "net")
    again = secateur.load(tmp_path / "net", Growing).eval()
    assert torch.equal(again(x), net(x))
    fresh = Growing().eval()
    assert secateur.apply(fresh, secateur.pruning.Plan.from_json(report.plan.to_json())).verified
    with pytest.raises(UserError, match="does not compute"):
        secateur.load(tmp_path / "net", lambda: Growing(scale=2.0))


def test_several_rounds_come_back(saved, tmp_path):
    net, _ = saved
    secateur.prune(net, images(), sparsity=0.4, criterion="random")
    secateur.save(net, tmp_path / "twice")
    again = secateur.load(tmp_path / "twice", factory).eval()
    assert torch.equal(again(images()), net(images()))
    assert len(secateur.pruning.history(again)) == 2


def test_copies_and_pickles_keep_their_history(saved, tmp_path):
    net, _ = saved
    for place, twin in enumerate([copy.deepcopy(net), pickle.loads(pickle.dumps(net))]):
        secateur.save(twin, tmp_path / str(place))
        assert torch.equal(secateur.load(tmp_path / str(place), factory).eval()(images()), net(images()))
    assert b"_CarriedOut" not in pickle.dumps(net), "a pickle needs no class of ours to come back"


def test_an_unpruned_network_can_be_saved(tmp_path):
    net = factory()
    secateur.save(net, tmp_path / "dense")
    assert torch.equal(secateur.load(tmp_path / "dense", factory).eval()(images()), net(images()))


def test_an_existing_network_is_not_overwritten_by_accident(saved):
    net, folder = saved
    with pytest.raises(UserError, match="holds a saved network"):
        secateur.save(net, folder)
    secateur.save(net, folder, overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["plan.json", "weights.safetensors"])
def test_a_truncated_file_is_refused(saved, name, share):
    _, folder = saved
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError) as caught:
        secateur.load(folder, factory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["plan.json", "weights.safetensors"])
def test_a_missing_file_is_refused(saved, name):
    _, folder = saved
    (folder / name).unlink()
    with pytest.raises(UserError, match="no saved network"):
        secateur.load(folder, factory)


def test_a_flipped_bit_in_the_weights_is_refused(saved):
    _, folder = saved
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="not the ones that were saved"):
        secateur.load(folder, factory)


def test_forged_weights_are_refused(saved):
    _, folder = saved
    tensors = load_file(folder / "weights.safetensors")
    save_file({name: tensor * 0 for name, tensor in tensors.items()}, folder / "weights.safetensors")
    with pytest.raises(UserError, match="not the ones that were saved"):
        secateur.load(folder, factory)


def test_a_forged_plan_is_refused(saved):
    _, folder = saved
    document = json.loads((folder / "plan.json").read_text())
    document["plans"][0]["cuts"][0]["slices"][0]["removed"][0] = 7
    (folder / "plan.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="changed after it was saved"):
        secateur.load(folder, factory)


def test_another_class_is_refused(saved):
    _, folder = saved
    with pytest.raises(UserError, match="another architecture"):
        secateur.load(folder, lambda: build(["plain"], "batch", "relu", "flatten"))


def test_a_class_whose_code_changed_is_refused(saved):
    _, folder = saved
    with pytest.raises(UserError, match="does not compute what the saved one did"):
        secateur.load(folder, lambda: build(["residual", "concat"], "batch", "sigmoid", "flatten"))


@pytest.mark.parametrize(
    "data", [{}, [], {"cuts": [], "schema_version": 99}, {"cuts": [{}], "schema_version": 1}]
)
def test_a_damaged_plan_is_refused(data):
    with pytest.raises(UserError):
        secateur.pruning.Plan.from_json(data)


def test_a_plan_for_another_architecture_is_refused():
    net, other = factory(), build(["plain"], "batch", "relu", "linear")
    plan = secateur.plan(secateur.trace(net, images()))
    with pytest.raises(UserError, match="made for another architecture"):
        secateur.apply(other, plan)


@pytest.mark.parametrize("name", ["README.md", "weights.safetensors"])
def test_files_of_others_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"holds {name} already"):
        secateur.save(factory(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"
    secateur.save(factory(), tmp_path, overwrite=True)


def test_a_network_in_the_place_of_its_factory_is_said(saved):
    with pytest.raises(UserError, match="the factory is a network itself"):
        secateur.load(saved[1], factory())
