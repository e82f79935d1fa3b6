import shutil

import pytest

from toy.study import run_toy


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """The folder of a toy study that ran to its end: to compare with, or to copy, but not to change."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run_toy(out).exit_code == 0
    return out


@pytest.fixture
def finished(whole_run, tmp_path):
    """A copy of it for one test."""
    return shutil.copytree(whole_run, tmp_path / "run")
