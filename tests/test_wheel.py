"""The wheel alone, in an empty folder: all files are in it, README and tutorial run from it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
# Less work by verb; where an option is given twice, the last one counts.
LESS = {
    "check": ("--images", "16", "--steps", "5", "--epochs", "1", "--budgets", "linf:0.05"),
    "attack": ("--limit", "16", "--steps", "5"),
    "run": (
        *(
            "--set",
            "images=8",
            "--set",
            "seeds=[0]",
            "--set",
            "sparsities=[0, 0.5]",
            "--set",
            "criteria=[l1]",
        ),
        *("--set", "attacks={ddn: {steps: 3}}"),
        *("--set", "finetune={standard: {epochs: 1, batch_size: 64}}"),
    ),
}
# So little fine-tuning may break a limit, which says nothing about the wheel.
LIMITS = ("--max-drop", "--min-robust")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("wheel")
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(folder))))


def test_every_file_of_the_package_is_in_the_wheel_and_no_other(wheel):
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name and name.startswith("secateur/")}
    assert names == files
    for needed in (
        "secateur/py.typed",
        "secateur/data/digits.npz",
        "secateur/models/shipped/digits-plain.safetensors",
        "secateur/config/presets/own.yaml",
        "secateur/decision/templates/check.html.j2",
        "secateur/report/templates/report.js",
        "secateur/report/templates/references.bib",
    ):
        assert needed in names


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder that the wheel is installed in, and the environment of a process that finds it there."""
    pytest.importorskip("pip")
    place = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target")
    subprocess.run([*pip, str(place), str(wheel)], check=True, capture_output=True)
    kept = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    others = [entry for entry in kept if ROOT not in (Path(entry), *Path(entry).parents)]
    return place, {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), *others])}


@pytest.fixture
def stranger(installed, tmp_path):
    """Runs Python in an empty folder, with the wheel and without the source."""
    place, environment = installed

    def call(*arguments):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-2000:]}"
        return done.stdout

    found = call("-c", "import secateur; print(secateur.__file__)").strip()
    assert Path(found).is_relative_to(place)
    call.folder = tmp_path
    return call


def shown(page, language):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def commands(page):
    """The commands of a page in their order, each once, without its comment."""
    lines = [line for block in shown(page, "[a-z]*") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("secateur ")]
    return [list(each) for each in dict.fromkeys(map(tuple, words))]


def quicker(command, *more):
    """The same command with less to compute, and limits that nothing breaks."""
    verb, words = command[1], []
    for word, before in zip(command, ["", *command], strict=False):
        if word not in LIMITS and before not in LIMITS:
            words.append(word)
    lax = ("--max-drop", "100%") if verb == "check" else ()
    return ["-m", *words, *LESS.get(verb, ()), *lax, *map(str, more)]


@pytest.mark.slow
def test_the_tutorial_runs_from_the_wheel(stranger):
    blocks = [block.replace("images=100", "images=16") for block in shown("docs/tutorial.md", "python")]
    (stranger.folder / "tutorial.py").write_text("\n".join(blocks), encoding="utf-8")
    assert "parameters" in stranger("tutorial.py")
    for page in ("checked/check.html", "changes.png", "images/test/3", "w.pth"):
        assert (stranger.folder / page).exists()
    verbs = []
    for number, command in enumerate(commands("docs/tutorial.md")):
        verbs.append(command[1])
        more = ["--out", f"check-{number}"] if command[1] == "check" else []
        stranger(*quicker(command, *more))
    assert verbs == ["check", "check", "init", "plan", "run"]
    (study,) = (stranger.folder / "runs").iterdir()
    assert "accuracy" in stranger("-m", "secateur", "report", study)
    assert (study / "report" / "index.html").exists()


@pytest.mark.slow
def test_the_commands_of_the_readme_run_from_the_wheel(stranger):
    seen = []
    for command in commands("README.md"):
        seen.append(command[1])
        stranger(*quicker(command))
    assert {"check", "graph", "prune", "attack", "export", "init", "validate", "plan", "run", "status",
            "report", "ls", "doctor"} <= set(seen)  # fmt: skip
    assert (stranger.folder / "runs" / "first" / "report" / "index.html").exists()
    dense = ("--model", "shipped:digits-plain", "--data", "digits:split")
    stranger("-m", "secateur", "evaluate", *dense, "--out", "dense.json")
    stranger("-m", "secateur", "finetune", *dense, "--epochs", 1, "--out", "tuned")
    stranger("-m", "secateur", "evaluate", *dense, "--weights", "tuned", "--out", "tuned.json")
    assert "540 images of both" in stranger("-m", "secateur", "compare", "dense.json", "tuned.json")
