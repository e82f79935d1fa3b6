import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from secateur.errors import ExitCode, UserError
from secateur.models import accuracy_mismatch, build, data_mismatch, load_weights, resolve, weights_hash
from secateur.registry import CHECKPOINTS, checkpoint

NAME = "robustbench:Sehwag2021Proxy_R18"


class Refused(Exception):
    pass


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """A stand-in for the download package: ``content`` is what it writes, ``calls`` what it was asked for."""
    fake = ModuleType("gdown")
    fake.exceptions = SimpleNamespace(FileURLRetrievalError=Refused)
    state = SimpleNamespace(calls=[], content=None)

    def download(*, id, output, quiet, resume):
        state.calls.append(id)
        if state.content is None:
            raise Refused("Too many users have viewed or downloaded this file recently.\nMore text.")
        Path(output).write_bytes(state.content)

    fake.download = download
    monkeypatch.setitem(sys.modules, "gdown", fake)
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    state.cache = tmp_path / "cache" / "checkpoints" / "cifar10"
    return state


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    model = build("resnet18")
    nn.init.ones_(model.get_parameter("linear.bias"))
    torch.save({"state_dict": model.state_dict()}, path)
    return path.read_bytes()


@pytest.mark.slow
def test_published_weights_are_downloaded_once_and_pinned(drive, content):
    drive.content = content
    first = resolve(NAME)
    assert torch.equal(first.get_parameter("linear.bias"), torch.ones(10))
    assert sorted(path.name for path in (drive.cache / "Linf").iterdir()) == [
        "Sehwag2021Proxy_R18.pt",
        "Sehwag2021Proxy_R18.sha256",
    ]
    assert weights_hash(resolve(NAME)) == weights_hash(first)
    assert drive.calls == ["1-ZgoSlD_AMhtXdnUElilxVXnzK2DcHuu"]


@pytest.mark.slow
def test_a_changed_file_in_the_cache_is_noticed(drive, content):
    drive.content = content
    resolve(NAME)
    path = drive.cache / "Linf" / "Sehwag2021Proxy_R18.pt"
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(UserError, match="not the expected file"):
        resolve(NAME)


@pytest.mark.parametrize(
    ("written", "said"),
    [(b"<!DOCTYPE html><html>quota</html>", "web page"), (b"PK\x03\x04", "damaged"), (b"", "is empty")],
)
def test_a_bad_download_is_one_sentence_and_leaves_nothing(drive, written, said):
    drive.content = written
    with pytest.raises(UserError, match=said):
        resolve(NAME)
    assert not list((drive.cache / "Linf").iterdir())


def test_a_refused_download_says_how_to_get_the_file_by_hand(drive):
    with pytest.raises(UserError, match="could not be downloaded: Too many users") as caught:
        resolve(NAME)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert "1-ZgoSlD_AMhtXdnUElilxVXnzK2DcHuu" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_without_the_download_package_the_extra_is_named(drive, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(UserError, match=r"secateur\[data\]") as caught:
        resolve(NAME)
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_the_architecture_alone_needs_no_download(drive):
    assert weights_hash(resolve(NAME, pretrained=False)) == weights_hash(build("resnet18"))
    assert drive.calls == []


def test_a_threat_model_may_be_named_and_linf_is_the_default():
    assert checkpoint("robustbench:Sehwag2021Proxy_R18").name == "Linf/Sehwag2021Proxy_R18"
    assert checkpoint("robustbench:L2/Sehwag2021Proxy_R18").facts["epsilon"] == 0.5
    with pytest.raises(UserError, match=r"unknown checkpoint 'Linf/Sehwag2021Proxi_R18' \(did you mean"):
        checkpoint("robustbench:Sehwag2021Proxi_R18")


def test_published_networks_are_for_ten_classes_of_colour_images():
    with pytest.raises(UserError, match="10 classes"):
        resolve(NAME, num_classes=100)


@pytest.mark.slow
def test_every_published_network_can_be_built_and_is_tagged():
    for entry in CHECKPOINTS.entries():
        if entry.name.startswith("shipped:"):
            continue
        assert resolve(f"robustbench:{entry.name}", pretrained=False) is not None
        assert entry.facts["robust"] == (not entry.name.endswith("Standard"))
        assert 80 < entry.facts["clean_accuracy"] < 100


@pytest.mark.parametrize(
    ("accuracy", "n", "flagged"),
    [
        (0.8459, 10_000, False),
        (0.8441, 10_000, False),
        (0.8435, 10_000, True),
        (0.8485, 10_000, True),
        (0.83, 1000, False),
        (0.70, 1000, True),
    ],
)
def test_a_clean_accuracy_off_the_published_one_is_flagged(accuracy, n, flagged):
    sentence = accuracy_mismatch(NAME, accuracy, n=n)
    assert (sentence is not None) == flagged
    if sentence:
        assert "84.59 % is published" in sentence


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("shipped:digits-plain", "digits", "trained on part of digits: digits:split holds"),
        ("shipped:digits-plain", "digits:split", None),
        ("shipped:digits-plain", "fashion-mnist:folder", "trained on digits, not on fashion-mnist"),
        (NAME, "cifar10:folder", None),
        (NAME, "svhn:folder", "trained on cifar10, not on svhn"),
        (NAME, "folder:my-cifar", None),
        (NAME, "npz:cifar.npz", None),
    ],
)
def test_weights_are_judged_on_images_they_were_made_for_and_have_not_seen(name, data, said):
    sentence = data_mismatch(name, data)
    assert sentence is None if said is None else said in sentence


PEERS = {
    "Linf/Addepalli2022Efficient_RN18": lambda: architecture("resnet", "ResNet18")(),
    "Linf/Engstrom2019Robustness": lambda: peer_class("Engstrom2019RobustnessNet")(),
    "Linf/Standard": lambda: architecture("wide_resnet", "WideResNet")(depth=28, widen_factor=10),
    "Linf/Wang2023Better_WRN-28-10": lambda: architecture("dm_wide_resnet", "DMWideResNet")(
        num_classes=10, depth=28, width=10, activation_fn=nn.SiLU
    ),
}


def architecture(module, name):
    root = pytest.importorskip(f"robustbench.model_zoo.architectures.{module}", exc_type=ImportError)
    return getattr(root, name)


def peer_class(name):
    return getattr(pytest.importorskip("robustbench.model_zoo.cifar10", exc_type=ImportError), name)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PEERS)
def test_state_dicts_of_robustbench_load_strictly_and_give_equal_logits(name, tmp_path):
    generator = torch.Generator().manual_seed(0)
    peer = PEERS[name]().eval()
    for part in peer.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in peer.state_dict().items()}}, tmp_path / "w"
    )
    mine = resolve(f"robustbench:{name}", pretrained=False).eval()
    load_weights(mine, tmp_path / "w")
    x = torch.rand(4, 3, 32, 32, generator=generator)
    with torch.no_grad():
        assert torch.allclose(mine(x), peer(x), atol=1e-5)
