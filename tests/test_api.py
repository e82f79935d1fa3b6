"""The names outsiders may rely on."""

import subprocess
import sys

import pytest

import secateur


@pytest.mark.parametrize("name", secateur.__all__)
def test_every_public_name_is_there(name):
    assert getattr(secateur, name) is not None


def test_functions_and_rooms_do_not_hide_each_other():
    import secateur.attacks.runner.run
    import secateur.pruning
    import secateur.study

    assert secateur.plan is secateur.pruning.plan
    assert secateur.run is secateur.study.run
    assert callable(secateur.attack)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="prunne"):
        secateur.prunne  # noqa: B018


def test_importing_the_package_does_not_wait_for_torch():
    script = "import sys, secateur; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
