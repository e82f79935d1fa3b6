"""Files of users: scripts that end the program, files beside them, networks that are there already."""

import re
import sys

import pytest
import torch
from torch import nn

from secateur.errors import ExitCode, UserError
from secateur.models import build, resolve
from secateur.registry import load_plugin

SCRIPT = "import argparse\nargparse.ArgumentParser().parse_args(['--epochs'])\n"
NET = "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))\n"


@pytest.mark.parametrize("text", ["raise SystemExit", "import sys; sys.exit(0)", SCRIPT])
@pytest.mark.parametrize("take", [lambda path: resolve(f"{path}:net"), load_plugin])
def test_a_script_that_ends_the_program_is_an_error(tmp_path, text, take):
    (tmp_path / "train.py").write_text(text)
    with pytest.raises(UserError, match=r"train.py' ends the program, with exit code \d") as caught:
        take(tmp_path / "train.py")
    assert caught.value.code == ExitCode.BAD_INPUT


def test_a_function_that_ends_the_program_is_an_error(tmp_path):
    (tmp_path / "ends.py").write_text("def net():\n    raise SystemExit('no')\n")
    with pytest.raises(UserError, match="ends the program"):
        resolve(f"{tmp_path}/ends.py:net")
    load_plugin(tmp_path / "ends.py")
    with pytest.raises(UserError, match="ends the program"):
        build("ends.py:net")


def test_files_beside_it_can_be_imported_when_it_runs(tmp_path):
    (tmp_path / "layers_beside_it.py").write_text(NET)
    (tmp_path / "mine_of_two.py").write_text("from layers_beside_it import net\n")
    before = list(sys.path)
    assert isinstance(resolve(f"{tmp_path}/mine_of_two.py:net"), nn.Sequential)
    assert sys.path == before


def test_a_file_beside_it_hides_no_installed_package(tmp_path):
    (tmp_path / "safetensors.py").write_text("raise ImportError('not this one')\n")
    (tmp_path / "mine.py").write_text("import safetensors.torch\n" + NET)
    assert isinstance(resolve(f"{tmp_path}/mine.py:net"), nn.Sequential)


def test_a_network_in_the_file_is_copied(tmp_path):
    (tmp_path / "made.py").write_text(NET + "\nready = net()\n")
    first, second = (resolve(f"{tmp_path}/made.py:ready") for _ in range(2))
    assert isinstance(first, nn.Sequential)
    assert first is not second
    x = torch.rand(2, 4)
    assert first(x).shape == (2, 2)


def test_the_hint_says_how_to_keep_the_script(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    with pytest.raises(UserError) as caught:
        resolve(f"{tmp_path}/train.py:net")
    assert re.search("if __name__ == '__main__'", caught.value.hint)
