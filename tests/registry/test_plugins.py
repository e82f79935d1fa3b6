"""Names that a user's own file or an installed package adds."""

import functools
import re
import shlex
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import secateur
from secateur.attacks import run
from secateur.data import Dataset
from secateur.errors import ExitCode, UserError
from secateur.registry import ATTACKS, CRITERIA, MODELS, Registry, load_plugin

PAGE = (Path(__file__).parents[2] / "docs" / "attacking.md").read_text(encoding="utf-8")
REGISTER = "from secateur.registry import ATTACKS\n"


@pytest.fixture
def plugin(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def documented(plugin):
    (code,) = [
        block for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S) if "halfway" in block
    ]
    return plugin(code, "halfway.py")


def test_the_documented_file_registers_all_three_kinds(documented):
    assert load_plugin(documented) == ["attack towards-grey", "criterion linf", "model tiny"]
    model = secateur.models.build("tiny")
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    report = secateur.prune(model, x[:1], criterion="linf", sparsity=0.25)
    assert report.parameters_after < report.parameters_before


def test_the_criterion_of_the_documented_file_takes_the_smallest_maximum(documented):
    load_plugin(documented)
    model = secateur.models.build("tiny")
    with torch.no_grad():
        model[0].weight.fill_(0.1)
        model[0].bias.zero_()
        model[0].weight[:, 0, 0, 0] = torch.arange(8) + 1.0
    plan = secateur.plan(secateur.trace(model, torch.rand(1, 1, 8, 8)), criterion="linf", sparsity=0.25)
    slices = [part for cut in plan.cuts for part in cut.slices]
    (gone,) = [part for part in slices if (part.tensor, part.dim) == ("0.weight", 0)]
    assert sorted(gone.removed) == [0, 1]


def test_the_documented_commands_run_in_their_order(documented, tmp_path, monkeypatch, capsys):
    from secateur.cli import main

    monkeypatch.chdir(tmp_path)
    commands = [line for line in PAGE.splitlines() if line.startswith("secateur") and "--plugin" in line]
    assert [shlex.split(command)[1] for command in commands] == ["ls", "attack", "prune"]
    for command in commands:
        with pytest.raises(SystemExit) as end:
            main(shlex.split(command)[1:])
        said = capsys.readouterr()
        assert not end.value.code, said.err
        assert "halfway.py registers attack towards-grey" in said.err
        assert "towards-grey" in said.out or (tmp_path / "pruned" / "plan.json").exists()


def test_the_file_s_content_is_the_version_of_what_it_registers(plugin):
    path = plugin(REGISTER + "ATTACKS.register('a', lambda model, x, y: x, norms=(2.0,))\n")
    load_plugin(path)
    first = ATTACKS.entry("a").facts["science"]
    load_plugin(path)
    assert ATTACKS.entry("a").facts["science"] == first
    path.write_text(path.read_text() + "# changed\n")
    load_plugin(path)
    assert ATTACKS.entry("a").facts["science"] != first


def test_two_files_of_one_name_do_not_replace_each_other(plugin, tmp_path):
    text = REGISTER + "def attack(model, x, y):\n    return x\nATTACKS.register('a', attack)\n"
    load_plugin(plugin(text))
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="already registered"):
        load_plugin(plugin(text, "other/mine.py"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "registers nothing"),
        ("import nowhere\n", r"ModuleNotFoundError: No module named 'nowhere', line 1: import nowhere"),
        (
            "\n\ndef f():\n    return 1 / 0\n\nf()\n",
            r"ZeroDivisionError: division by zero, line 4: return 1 / 0",
        ),
        ("x = (\n", "SyntaxError: '.' was never closed, line 1"),
        (REGISTER + "ATTACKS.register('ddn', lambda: 0)\n", "'ddn' is already registered"),
        (REGISTER + "ATTACKS.register('a', lambda: 0, kind='minimal')\n", "with kind 'minimal'"),
        (REGISTER + "ATTACKS.register('a', lambda: 0, norms=(3,))\n", r"with norms \(3,\)"),
        (REGISTER + "ATTACKS.register('a', lambda: 0, norms=2)\n", "with norms 2"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence_with_its_line(plugin, text, said):
    with pytest.raises(UserError, match=said) as error:
        load_plugin(plugin(text))
    assert "\n" not in error.value.message


def test_a_file_that_is_missing_or_no_python_is_refused(plugin, tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        load_plugin(tmp_path / "absent.py")
    with pytest.raises(UserError, match="is not a Python file"):
        load_plugin(plugin("x = 1\n", "mine.txt"))


@pytest.mark.parametrize("verb", ["attack", "prune", "graph", "ls"])
def test_every_verb_refuses_a_broken_plug_in_with_exit_code_2(plugin, capsys, verb):
    from secateur.cli import main

    needed = {"attack": ["-m", "smallcnn", "-d", "digits"], "prune": ["-m", "smallcnn", "-o", "x"]}
    with pytest.raises(SystemExit) as end:
        main(
            [verb, *needed.get(verb, ["-m", "smallcnn"] if verb == "graph" else []), "--plugin", "absent.py"]
        )
    assert end.value.code == 2
    assert "there is no file 'absent.py'" in capsys.readouterr().err


def test_a_study_file_cannot_name_a_plug_in(tmp_path):
    from secateur.config import parse_study

    with pytest.raises(UserError, match="plugin"):
        parse_study("name: a\ndata: digits\nmodels: {m: resnet-tiny}\nplugin: mine.py\n")


@pytest.fixture
def ruler():
    x = torch.tensor([0.1, 0.3, 0.9]).view(3, 1, 1, 1).expand(3, 1, 2, 2).contiguous()
    return Dataset("ruler", x, torch.zeros(3, dtype=torch.int64), ("dark", "bright"), None)


class Ruler(torch.nn.Module):
    def forward(self, x):
        mean = x.flatten(1).mean(1) - 0.5
        return torch.stack([-mean, mean], 1)


def test_an_attack_may_return_images_which_are_asked_about_once_more(ruler):
    ATTACKS.register("white", lambda model, x, y: torch.ones_like(x), norms=(2.0,))
    result = run(Ruler(), ruler, "white")
    assert result.outcome == ["found", "found", "already_wrong"]
    assert result.forwards.tolist() == [1, 1, 0]
    assert not result.unverified.any()
    ATTACKS.register("clean", lambda model, x, y: x, norms=(2.0,))
    assert run(Ruler(), ruler, "clean").outcome == ["not_found", "not_found", "already_wrong"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: (x, x), "a tuple"),
        (lambda x: x[:1], r"shape \(1, 1, 2, 2\)"),
        (lambda x: None, "a NoneType"),
    ],
)
def test_an_attack_that_answers_something_else_is_one_sentence(ruler, answer, said):
    ATTACKS.register("odd", lambda model, x, y: answer(x), norms=(2.0,))
    with pytest.raises(UserError, match=f"attack 'odd' returned {said} for inputs"):
        run(Ruler(), ruler, "odd")


def test_objects_without_a_name_of_their_own_can_be_registered():
    ATTACKS.register("partial", functools.partial(print), norms=(2.0,))
    assert callable(ATTACKS.get("partial"))
    ATTACKS.register("number", 3)
    with pytest.raises(UserError, match="is a int, not a function"):
        run(Ruler(), Dataset("d", torch.zeros(1, 1, 2, 2), torch.tensor([0]), ("a", "b"), None), "number")


def installed(monkeypatch, *points):
    monkeypatch.setattr("secateur.registry.registry.entry_points", lambda group: [
        EntryPoint(name, value, group) for name, value in points
    ])  # fmt: skip
    return Registry("attack")


def test_an_entry_point_is_listed_without_being_imported_and_loaded_when_asked_for(monkeypatch):
    registry = installed(monkeypatch, ("root", "math:sqrt"), ("broken", "nowhere:attack"))
    assert registry.names() == ["root", "broken"]
    assert registry.get("root")(4) == 2
    with pytest.raises(UserError, match="No module named 'nowhere'") as error:
        registry.get("broken")
    assert error.value.code == ExitCode.ENVIRONMENT


def test_an_entry_point_cannot_take_a_name_that_is_there(monkeypatch):
    registry = installed(monkeypatch, ("ddn", "math:sqrt"))
    registry.register("ddn", "secateur.attacks.ddn:ddn")
    with pytest.raises(UserError, match="'ddn', which is taken by"):
        registry.names()


def test_defects_of_our_own_modules_are_not_called_a_user_s_mistake():
    registry = Registry("attack")
    registry.register("lost", "secateur.attacks.nowhere:lost")
    with pytest.raises(ModuleNotFoundError):
        registry.get("lost")


def test_all_registries_can_be_extended():
    assert {registry.kind for registry in (ATTACKS, CRITERIA, MODELS)} <= {"attack", "criterion", "model"}


def test_a_source_of_data_may_return_one_data_set_and_nothing_else(plugin):
    start = "import torch\nfrom secateur.data import Dataset\nfrom secateur.registry import DATASETS\n"
    made = "lambda part: Dataset('mine', torch.rand(6, 1, 4, 4), torch.arange(6) % 2)"
    load_plugin(plugin(f"{start}DATASETS.register('whole-set', {made}, 'six images')\n", "whole.py"))
    assert secateur.data.load("whole-set").n == 6
    load_plugin(plugin(f"{start}DATASETS.register('no-set', lambda part: 3, 'none')\n", "none.py"))
    with pytest.raises(UserError, match="'no-set' returned int, not a Dataset"):
        secateur.data.load("no-set")


def test_a_script_that_ends_with_a_word_has_failed(plugin):
    with pytest.raises(UserError, match="ends the program, with exit code 1"):
        load_plugin(plugin("raise SystemExit('no')\n", "ends.py"))
