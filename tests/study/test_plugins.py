"""A study whose attack, criterion and model come from a user's own file."""

import sys
from pathlib import Path

import pytest

import secateur
from secateur import models
from secateur.config import load_study
from secateur.engine.local import LocalEngine
from secateur.engine.ray import _compute
from secateur.errors import ExitCode, UserError
from secateur.registry import Registry, load_plugin, plugins
from secateur.store import Store
from secateur.study import join, run_plan, status
from toy.study import EXECUTE, science, small_plan

ROOT = Path(__file__).parents[2]
FILE = """
from secateur.registry import ATTACKS, CRITERIA, MODELS

def attack(model, x, y, *, steps=3):
    return x

def once(model, x, y):
    return x

def net(num_classes=10, in_channels=1):
    raise AssertionError("the toy builds no network")

ATTACKS.register("mine", attack, norms=(2.0,))
ATTACKS.register("mine-once", once, norms=(2.0,))
CRITERIA.register("own", attack)
MODELS.register("net", net)
"""
STUDY = """
name: plugged
data: digits
models: {plain: resnet-tiny, net: net}
criteria: [l1, own]
sparsities: [0, 0.5]
attacks: {ddn: {steps: 10}, mine: {steps: 10}, mine-once: }
images: 20
"""


OURS = {registry.kind: dict(registry._entries) for registry in plugins.REGISTRIES}


def forget(monkeypatch):
    """As in a new process: nothing has been plugged in."""
    monkeypatch.setattr(plugins, "_LOADED", {})
    for registry in plugins.REGISTRIES:
        monkeypatch.setattr(registry, "_entries", dict(OURS[registry.kind]))
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))


@pytest.fixture(autouse=True)
def _names_stay_as_they_were(monkeypatch):
    forget(monkeypatch)


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def run(out, *, text=STUDY, **options):
    return run_plan(small_plan(text), out, execute=EXECUTE, **options)


@pytest.mark.slow
def test_workers_know_what_the_plug_in_registers(mine, tmp_path):
    load_plugin(mine)
    outcome = run(tmp_path / "run", jobs=2)
    assert (outcome.exit_code, outcome.failed) == (0, {})
    attacks = {record["axes"]["attack"] for record in outcome.records}
    assert {"mine", "mine-once", "ddn"} < attacks
    assert {record["axes"]["model"] for record in outcome.records} == {"plain", "net"}


@pytest.mark.slow
def test_workers_that_are_not_told_of_the_plug_in_would_not_even_start(mine, tmp_path):
    load_plugin(mine)
    store = Store.create(tmp_path / "run", small_plan(STUDY).to_json())
    with pytest.raises(UserError, match="the run needs attack mine"):
        run(store.root, engine=LocalEngine(store.root, execute=EXECUTE, plugins=()))


def test_another_content_is_another_identity_of_the_cells_that_use_it_and_of_no_other(mine, monkeypatch):
    def ids(text):
        forget(monkeypatch)
        mine.write_text(text)
        load_plugin(mine)
        return {cell.id: cell for cell in small_plan(STUDY).cells}

    before, same, after = ids(FILE), ids(FILE), ids(FILE + "# changed\n")
    assert before == same
    gone = [cell for id_, cell in before.items() if id_ not in after]
    kept = [cell for id_, cell in before.items() if id_ in after]
    assert gone
    assert all(
        "net" in cell.axes["model"]
        or cell.axes["criterion"] == "own"
        or "mine" in (cell.axes["attack"] or "")
        for cell in gone
    )
    assert {(cell.axes["model"], cell.axes["criterion"], cell.axes["attack"]) for cell in kept} == {
        ("plain", criterion, attack) for criterion in (None, "l1") for attack in (None, "ddn")
    }
    assert len(gone) + len(kept) == len(before)


def test_a_file_cannot_keep_its_version_while_its_content_changes(mine):
    mine.write_text(FILE.replace("norms=(2.0,)", "norms=(2.0,), science=7"))
    load_plugin(mine)
    (one,) = {plugins.ATTACKS.entry(name).facts["science"] for name in ("mine", "mine-once")}
    assert one == plugins.version_of(mine)


@pytest.mark.slow
def test_the_folder_says_which_file_but_never_where_it_lies(mine, tmp_path):
    load_plugin(mine)
    run(tmp_path / "run")
    (kept,) = Store.open(tmp_path / "run").study["plugins"]
    assert (kept["file"], kept["version"]) == ("mine.py", plugins.version_of(mine))
    assert kept["names"] == [
        ["attack", "mine"], ["attack", "mine-once"], ["criterion", "own"], ["model", "net"]
    ]  # fmt: skip
    assert str(mine.parent) not in (tmp_path / "run" / "study.json").read_text()


def test_a_study_that_uses_nothing_of_a_plug_in_does_not_depend_on_it(mine):
    before = small_plan().to_json()
    load_plugin(mine)
    assert small_plan().to_json() == before
    assert "plugins" not in before


@pytest.mark.slow
def test_the_run_goes_on_with_the_same_file_wherever_it_lies(mine, tmp_path, monkeypatch):
    load_plugin(mine)
    first = run(tmp_path / "run")
    forget(monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    load_plugin(mine.rename(tmp_path / "elsewhere" / "mine.py"))
    monkeypatch.setenv("TOY_TRACE", str(tmp_path / "trace"))
    assert run(tmp_path / "run").ok == first.ok
    assert not (tmp_path / "trace").exists()


@pytest.mark.slow
def test_the_run_does_not_go_on_with_another_content(mine, tmp_path, monkeypatch):
    load_plugin(mine)
    run(tmp_path / "run")
    forget(monkeypatch)
    mine.write_text(FILE + "# changed\n")
    load_plugin(mine)
    with pytest.raises(UserError, match=r"plugin mine\.py: \w{16} in the folder, \w{16} now") as caught:
        run(tmp_path / "run")
    assert caught.value.code == ExitCode.FOREIGN_FOLDER


@pytest.mark.slow
def test_a_worker_needs_the_same_file(mine, tmp_path, monkeypatch):
    load_plugin(mine)
    before = science_of(run(tmp_path / "run", jobs=1).store)
    Store.create(tmp_path / "new", small_plan(STUDY).to_json())
    forget(monkeypatch)
    with pytest.raises(
        UserError, match="needs attack mine, attack mine-once, criterion own, model net"
    ) as caught:
        join(tmp_path / "new", execute=EXECUTE, check_files=False)
    assert caught.value.command == "add --plugin mine.py"
    mine.write_text(FILE + "# changed\n")
    load_plugin(mine)
    with pytest.raises(UserError, match="has changed since the run was planned") as caught:
        join(tmp_path / "new", execute=EXECUTE, check_files=False)
    assert caught.value.code == ExitCode.FOREIGN_FOLDER
    forget(monkeypatch)
    mine.write_text(FILE)
    load_plugin(mine)
    joined = join(tmp_path / "new", execute=EXECUTE, check_files=False)
    assert science_of(joined.store) == before


def science_of(store):
    return science(store.root)


@pytest.mark.slow
def test_a_file_that_changes_while_the_run_goes_on_stops_it(mine, tmp_path):
    load_plugin(mine)
    plan = small_plan(STUDY)
    mine.write_text(FILE + "# changed\n")
    with pytest.raises(UserError, match="has changed since the run began") as caught:
        run_plan(plan, tmp_path / "run", execute=EXECUTE)
    assert caught.value.code == ExitCode.ENVIRONMENT
    mine.write_text(FILE)
    assert run_plan(plan, tmp_path / "run", execute=EXECUTE).exit_code == 0


@pytest.mark.slow
def test_status_and_report_need_no_plug_in(mine, tmp_path, monkeypatch):
    load_plugin(mine)
    run(tmp_path / "run")
    forget(monkeypatch)
    assert status(Store.open(tmp_path / "run")).counts["ok"] == len(Store.open(tmp_path / "run").cells)


def test_another_machine_of_a_cluster_runs_the_file_too(mine, tmp_path, monkeypatch):
    load_plugin(mine)
    plan = small_plan(STUDY)
    store = Store.create(tmp_path / "run", plan.to_json())
    told = (str(store.root), plan.cells[0].id, EXECUTE, None, sys.version_info[:2])
    forget(monkeypatch)
    kind, _, sentence = _compute(*told, ())
    assert (kind, "the run needs attack mine" in sentence) == ("paused", True)
    assert _compute(*told, (str(mine),))[0] == "ok"


@pytest.mark.slow
def test_the_public_run_takes_plug_ins(mine, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("net: net", "").replace("[l1, own]", "[l1]"))
    with pytest.raises(UserError, match="there is no attack 'mine'"):
        load_study(tmp_path / "study.yaml")
    records = secateur.run(
        tmp_path / "study.yaml", out=tmp_path / "run", execute=EXECUTE, plugins=[mine], limit=3
    )
    assert {record["status"] for record in records} == {"ok"}


def test_an_installed_package_s_attack_is_chosen_by_name_and_its_version_is_part_of_the_identity(
    tmp_path, monkeypatch
):
    def ids(version):
        registry = Registry("attack")
        monkeypatch.setattr(registry, "_entries", dict(OURS["attack"]))
        config = ("study", "values", "sections")
        for room in (
            "registry.attacks",
            "study.cells",
            "study.spelled",
            *(f"config.{file}" for file in config),
        ):
            monkeypatch.setattr(f"secateur.{room}.ATTACKS", registry)
        site = tmp_path / version
        made = site / f"somebody-{version}.dist-info"
        made.mkdir(parents=True)
        (made / "METADATA").write_text(f"Name: somebody\nVersion: {version}\n")
        (made / "entry_points.txt").write_text("[secateur.attack]\nstill = somebody_s_attacks:still\n")
        (site / "somebody_s_attacks.py").write_text("def still(model, x, y, *, norm):\n    return x\n")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(site)
            plan = small_plan(STUDY_OF_ITS_ATTACK)
        assert registry.entry("still").facts["science"] == f"somebody {version}"
        assert all("steps" not in cell.settings for cell in plan.cells if cell.axes["attack"] == "still")
        return {(cell.stage, cell.axes["attack"], cell.axes["sparsity"]): cell.id for cell in plan.cells}

    one, two = ids("1.2"), ids("1.3")
    assert {place for place in one if one[place] != two[place]} == {
        ("attack", "still", sparsity) for sparsity in (0.0, 0.5)
    }


STUDY_OF_ITS_ATTACK = """
name: installed
data: digits
models: {plain: resnet-tiny}
sparsities: [0, 0.5]
attacks: {ddn: {steps: 10}, still: {norm: 2}}
images: 20
"""


BUILDER = """
from torch import nn

def build(num_classes=10, in_channels=1):
    raise AssertionError("the toy builds no network")

def smaller():
    return nn.Linear(2, 2)

def helper(layer):
    return layer

def _hidden():
    return None
"""
OWN = STUDY.replace("net: net}", "net: net.py:build}").replace("criteria: [l1, own]", "criteria: [l1]")
OWN = OWN.replace(", mine: {steps: 10}, mine-once: }", "}")


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(BUILDER)
    return path


@pytest.mark.slow
def test_functions_of_a_file_that_registers_nothing_are_models_of_a_study(net, tmp_path):
    assert load_plugin(net) == ["model net.py:build", "model net.py:smaller"]
    assert load_plugin(net) == ["model net.py:build", "model net.py:smaller"]
    outcome = run(tmp_path / "run", jobs=2, text=OWN)
    assert (outcome.exit_code, outcome.failed) == (0, {})
    assert {record["axes"]["model"] for record in outcome.records} == {"plain", "net"}


def test_a_file_that_registers_something_is_read_as_before(mine):
    assert not any(name.startswith("model mine.py:") for name in load_plugin(mine))


def test_such_a_network_is_the_same_wherever_its_file_lies_and_another_when_it_changes(
    net, tmp_path, monkeypatch
):
    def ids(path, named):
        forget(monkeypatch)
        load_plugin(path)
        return {cell.id for cell in small_plan(OWN.replace("net.py:build", named)).cells}

    here = ids(net, "net.py:build")
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "net.py").write_text(BUILDER)
    assert ids(other / "net.py", f"{other}/net.py:build") == here
    (other / "net.py").write_text(BUILDER + "# changed\n")
    assert ids(other / "net.py", "net.py:build") != here


def test_a_study_file_alone_runs_nobodys_code(net, tmp_path):
    with pytest.raises(UserError, match=r"name the file on the command line as well, --plugin net\.py"):
        small_plan(OWN)
    load_plugin(net)
    with pytest.raises(
        UserError, match="has no function 'biuld' that builds a network: it has build, smaller"
    ):
        small_plan(OWN.replace("net.py:build", "net.py:biuld"))
    with pytest.raises(UserError, match="would run code"):
        small_plan(OWN.replace("net.py:build", "other.py:build"))


def test_the_functions_get_what_they_take_and_nothing_else(tmp_path):
    path = tmp_path / "kinds.py"
    path.write_text(
        "from torch import nn\n"
        "def both(num_classes, in_channels): return nn.Linear(in_channels, num_classes)\n"
        "def neither(): return nn.Linear(5, 7)\n"
        "def many(**settings): return nn.Linear(5, 6)\n"
    )
    load_plugin(path)
    sizes = [
        models.resolve(f"kinds.py:{name}", num_classes=3, in_channels=2, allow_code=False).weight.shape
        for name in ("both", "neither", "many")
    ]
    assert sizes == [(3, 2), (7, 5), (6, 5)]
    with pytest.raises(UserError, match="has no setting 'width'"):
        models.resolve("kinds.py:both", settings={"width": 2}, allow_code=False)
