"""Shell completion, asked as the scripts of bash, zsh and fish ask it."""

import os
import shutil
import subprocess
import sys

import pytest

from report.synthetic import Grid, write
from secateur.cli.completion import rejoined
from secateur.registry import ATTACKS, CRITERIA, DATASETS, MODELS
from secateur.store import Store

CALL = "import sys; sys.argv[0] = 'secateur'; from secateur.cli import main; main()"
ALONE = "import sys; sys.argv[0] = 'secateur'; from secateur.cli import main\n"
ALONE += "try: main()\nfinally: assert 'torch' not in sys.modules and 'numpy' not in sys.modules"


def asked(shell, words, cwd=None, code=CALL, **more):
    """What the shell is told; ``words`` are those of the command line, the last one is being typed."""
    line = " ".join(words)
    told = {
        "bash": {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    environment = os.environ | told | {"_SECATEUR_COMPLETE": f"complete_{shell}"} | more
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def in_bash(*words, **settings):
    return [each for each in asked("bash", ("secateur", *words), **settings).split("\n") if each]


@pytest.mark.slow
def test_registered_names_are_completed_without_torch():
    assert in_bash("attack", "--attack", "f", code=ALONE) == ["fmn", "fgsm"]
    assert in_bash("attack", "-a", "") == ATTACKS.names()
    assert in_bash("prune", "--criterion", "") == CRITERIA.names()
    assert in_bash("check", "-a", "pg") == []
    assert in_bash("check", "-a", "st") == ["steep", "strongest"]
    models = in_bash("attack", "--model", "")
    assert models[: len(MODELS.names())] == MODELS.names()
    assert {"shipped:digits-plain", "robustbench:Linf/Engstrom2019Robustness", "timm:"} <= {*models}
    assert in_bash("ls", "cr") == ["criteria"]
    assert in_bash("init", "--preset", "thesis-") == ["thesis-literal"]


@pytest.mark.slow
def test_norms_and_settings_are_those_of_the_attack_that_is_named():
    assert in_bash("attack", "--norm", "L") == ["L0", "L0-pixels", "L1", "L2", "Linf"]
    assert in_bash("attack", "--attack", "ddn", "--norm", "") == ["L2"]
    assert in_bash("attack", "--attack", "ddn", "--set", "al") == ["alpha=", "alpha_final="]


@pytest.mark.slow
def test_data_begin_with_their_scheme_and_go_on_with_paths(tmp_path):
    offered = in_bash("attack", "--data", "")
    assert {each.rstrip(":") for each in offered} == {*DATASETS.names(), "digits:split"}
    assert {"digits", "digits:split", "folder:", "npz:"} <= {*offered}
    # A second value keeps bash from adding a space to the first.
    assert in_bash("attack", "-d", "fol") == ["folder:", "folder:…"]
    (tmp_path / "cats").mkdir()
    (tmp_path / "cars.npz").touch()
    (tmp_path / ".hidden").touch()
    # Bash takes words apart at colons, and replaces what comes after the last one.
    assert in_bash("attack", "--data", "folder", ":", "ca", cwd=tmp_path) == ["cars.npz", "cats/"]
    assert in_bash("attack", "--data", "npz", ":", f"{tmp_path}/car") == [f"{tmp_path}/cars.npz"]
    assert in_bash("attack", "--model", "shipped", ":", cwd=tmp_path) == ["digits-plain", "digits-robust"]
    (tmp_path / "net.py").touch()
    assert in_bash("attack", "--model", "n", cwd=tmp_path) == ["net.py:", "net.py:…"]
    assert in_bash("run", "s.yaml", "--log-to", "tensorboard", ":", "c", cwd=tmp_path) == ["cats/", "cats/…"]
    assert in_bash("run", "s.yaml", "--log-to", "t") == ["tensorboard:", "trackio:"]


@pytest.mark.slow
def test_cells_of_a_run_folder_are_completed(tmp_path):
    write(tmp_path / "run", Grid(models={"plain": False}, failed=()))
    cells = Store.open(tmp_path / "run").cells
    labels = in_bash("show", str(tmp_path / "run"), "")
    assert labels == [cell.label.replace(" ", "\\ ") for cell in cells]
    begun = in_bash("show", str(tmp_path / "run"), "prune\\ plain/0\\ l1\\ 0.2")
    assert begun == ["prune\\ plain/0\\ l1\\ 0.2"]
    assert in_bash("show", str(tmp_path / "run"), cells[3].id[:6]) == [cells[3].id]
    assert in_bash("show", str(tmp_path / "none"), "") == []


@pytest.mark.slow
def test_zsh_and_fish_are_told_what_a_value_is(tmp_path):
    told = asked("zsh", ("secateur", "attack", "--model", "ship"))
    assert '"shipped\\\\:digits-plain":"' in told
    told = asked("fish", ("secateur", "attack", "--data", "fol"))
    assert told.startswith("folder:\ta folder of pictures")
    write(tmp_path / "run", Grid(models={"plain": False}, failed=()))
    assert '"train plain/0":"' in asked("zsh", ("secateur", "show", str(tmp_path / "run"), "tra"))


def test_every_option_of_a_name_is_completed():
    """An option that names an attack, a criterion, images or a network, in whatever command it is."""
    from typer.main import get_command

    from secateur.cli.app import app

    named = {"--attack", "--criterion", "--data", "--model", "--norm", "--preset", "--rates", "--log-to"}
    bare = [
        f"{verb} {option}"
        for verb, command in get_command(app).commands.items()
        for parameter in command.params
        for option in parameter.opts
        if option in named and parameter._custom_shell_complete is None
    ]
    # Labels of one study, which no registry knows.
    assert bare == ["transfer --model"]


@pytest.mark.parametrize(
    ("words", "cursor", "joined", "place"),
    [
        (["s", "--data", "folder", ":", "cats"], 4, ["s", "--data", "folder:cats"], 2),
        (["s", "--data", "folder", ":"], 3, ["s", "--data", "folder:"], 2),
        (["s", "-m", "a.py", ":", "net", "-d", "digits"], 6, ["s", "-m", "a.py:net", "-d", "digits"], 4),
        (["s", "-m", "a.py", ":", "net", "-d", "x"], 2, ["s", "-m", "a.py:net", "-d", "x"], 2),
        (["s", "attack", ""], 2, ["s", "attack", ""], 2),
    ],
)
def test_words_are_put_together_at_colons(words, cursor, joined, place):
    assert rejoined(words, cursor) == (joined, place)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_itself_fills_in_what_was_asked(tmp_path):
    """The function that ``--show-completion`` prints, called as bash calls it."""
    script = asked_script()
    (tmp_path / "secateur").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{CALL}" "$@"\n')
    (tmp_path / "secateur").chmod(0o755)
    lines = [
        script,
        "COMP_WORDS=(secateur attack --model shipped : dig)",
        "COMP_CWORD=5",
        "_secateur_completion secateur",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(lines)],
        env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["digits-plain", "digits-robust"]


def asked_script():
    done = subprocess.run(
        [sys.executable, "-c", CALL, "--show-completion", "bash"],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout
