"""What the README shows is what happens."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def commands(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf-8")
    lines = [line for block in blocks(path, "(?:[a-z]*)") for line in block.splitlines()]
    lines += re.findall(r"`(secateur [^`]+)`", text)
    return [shlex.split(line, comments=True) for line in lines if line.startswith("secateur ")]


def test_the_python_example_runs(tmp_path):
    (example,) = blocks(ROOT / "README.md", "python")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "linf" in done.stdout


def test_the_commands_on_one_network_run_in_their_order(tmp_path):
    shown = [
        command for command in commands(ROOT / "README.md") if command[1] in ("graph", "prune", "attack")
    ]
    assert [command[1] for command in shown[:3]] == ["graph", "prune", "attack"]
    for command in shown[:3]:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert '"grade"' in done.stdout
    assert (tmp_path / "graph.svg").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_shown_names_verbs_and_options_that_exist(page):
    from typer.main import get_command

    from secateur.cli.app import app

    verbs = get_command(app).commands
    for command in commands(page):
        options = {option for parameter in verbs[command[1]].params for option in parameter.opts}
        given = {word.partition("=")[0] for word in command[2:] if word.startswith("-") and word != "-"}
        assert given <= options | {"--help"}, f"{page.name}: {' '.join(command)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_linked_exists(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links {target}"
