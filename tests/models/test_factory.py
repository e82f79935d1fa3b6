import builtins
import importlib

import pytest
import torch

from secateur.errors import ExitCode, UserError
from secateur.models import build, resolve, weights_hash

SOURCE = """
import torch
from torch import nn

def net(num_classes, in_channels=1):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 4, num_classes))

def fixed():
    return nn.Linear(4, 2)

def broken():
    return 3

def needy(width):
    return nn.Linear(width, width)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_zoo_name_gives_the_same_network_as_build():
    assert weights_hash(resolve("resnet-tiny")) == weights_hash(build("resnet-tiny"))


def test_a_network_is_built_alike_whatever_the_global_random_state():
    first = weights_hash(build("smallcnn"))
    torch.rand(3)
    assert weights_hash(build("smallcnn")) == first


def test_a_function_in_a_file_gets_the_classes_and_channels_it_asks_for(file):
    assert resolve(f"{file}:net", num_classes=5, in_channels=3)(torch.zeros(1, 3, 2, 2)).shape == (1, 5)
    assert resolve(f"{file}:net", num_classes=5)(torch.zeros(1, 1, 2, 2)).shape == (1, 5)
    assert resolve(f"{file}:fixed", num_classes=5)(torch.zeros(1, 4)).shape == (1, 2)


def test_a_file_is_not_run_where_code_is_not_allowed(file):
    with pytest.raises(UserError, match="would run code"):
        resolve(f"{file}:net", allow_code=False)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("resnet-tinny", "unknown model 'resnet-tinny' \\(did you mean 'resnet-tiny'"),
        ("hub:something", "unknown model source 'hub'"),
        ("nowhere.py:net", "there is no file"),
        ("{file}:absent", "has no function 'absent'"),
        ("{file}:broken", "is a int, not a torch.nn.Module"),
        ("{file}:needy", "cannot be called"),
    ],
)
def test_a_wrong_name_is_refused_in_one_sentence(file, spec, said):
    with pytest.raises(UserError, match=said) as caught:
        resolve(spec.replace("{file}", str(file)))
    assert "\n" not in str(caught.value)
    assert caught.value.code == ExitCode.BAD_INPUT


def test_a_file_that_fails_on_import_is_one_sentence(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("import there_is_no_such_module")
    with pytest.raises(UserError, match="cannot be imported: ModuleNotFoundError"):
        resolve(f"{path}:net")


@pytest.mark.parametrize(
    ("settings", "said"), [({"widht": 3}, "has no setting 'widht'"), ({"size": 8}, "has no setting 'size'")]
)
def test_an_unknown_setting_is_refused(settings, said):
    with pytest.raises(UserError, match=said):
        build("resnet18", **settings)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_missing_package_is_an_error_of_the_environment(monkeypatch, package):
    def without(name, *arguments):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'")
        return importlib.import_module(name, *arguments)

    monkeypatch.setattr("secateur.models.packages.import_module", without)
    with pytest.raises(UserError, match=f"needs the package {package}") as caught:
        resolve(f"{package}:resnet18")
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert f"pip install {package}" in caught.value.hint


def test_building_a_zoo_network_imports_neither_torchvision_nor_timm(monkeypatch):
    real = builtins.__import__

    def guarded(name, *arguments, **keywords):
        assert name.split(".")[0] not in {"torchvision", "timm"}
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", guarded)
    resolve("resnet18")


@pytest.mark.reference
@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_networks_of_installed_packages_are_built(package):
    pytest.importorskip(package)
    assert resolve(f"{package}:resnet18", num_classes=7)(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    with pytest.raises(UserError, match="has no"):
        resolve(f"{package}:no_such_network")
