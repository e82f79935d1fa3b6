"""`--log-to`: what trackers are told of a study and of a check, and what happens where they fail."""

import json
import sys
from types import SimpleNamespace

import pytest

from report.synthetic import Grid, write
from secateur import study
from secateur.cli import tracking
from secateur.cli.tracked_values import listening
from secateur.cli.tracking import tracked
from secateur.engine import Event
from secateur.errors import ExitCode, UserError
from secateur.report import figures
from secateur.report.load import load
from secateur.store import Store
from secateur.study import RunResult

BUDGETS = {"l2": [0.2, 0.4], "linf": [0.05, 0.1, 0.2]}
GRID = Grid(
    name="seen", models={"plain": False}, sparsities=(0.0, 0.4), criteria=("l1",), failed=(),
    config={"epsilons": BUDGETS},
)  # fmt: skip
CONFIG = "name: seen\ndata: digits\nmodels: {plain: {arch: resnet-tiny}}\n"


class StandIn(SimpleNamespace):
    """A package whose functions are those of Weights & Biases, as far as they are used."""

    def __init__(self, fails=False):
        super().__init__(rows=[], metrics=[], projects=[], finished=0, fails=fails)

    def init(self, *, project, name):
        self.projects.append((project, name))
        print("welcome")
        return SimpleNamespace(log=self.log, define_metric=self.define)

    def define(self, name, *, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, row):
        if self.fails:
            raise ConnectionError("no route to host")
        print("logged")
        self.rows.append(row)

    def finish(self):
        print("goodbye")
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    found = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", found)
    return found


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """`run` with made-up cells; where its events go is not made up."""

    def finished(laid, folder, *, on_event, **_):
        write(folder, GRID)
        on_event(Event("begin"))
        on_event(Event("end"))
        return RunResult(Store.open(folder), exit_code=0, ok=8, failed={}, seconds=1.0)

    monkeypatch.setattr(study, "run_plan", finished)
    # Drawing is what a report takes its time for.
    monkeypatch.setattr(figures, "draw", lambda grid, change: iter(()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(CONFIG)
    return tmp_path / "runs" / "seen"


def numbers(rows):
    """All logged numbers, by name and step."""
    found = {}
    for row in rows:
        group = next(key for key in row if key.endswith("/step")).removesuffix("/step")
        for key, value in row.items():
            found[key, row[f"{group}/step"]] = value
    return found


@pytest.mark.slow
def test_a_run_logs_what_its_report_says(secateur, made_up, wandb):
    said = secateur("run", "study.yaml", "--progress", "none", "--log-to", "wandb:thesis")
    assert said.code == 0, said.err
    assert wandb.projects == [("thesis", "seen")]
    assert wandb.finished == 1
    seen, rows = load(made_up), numbers(wandb.rows)
    compared = 0
    for network in seen.networks:
        axes = network.axes
        words = [f"{axes.model}-{axes.seed}", axes.criterion, "" if axes.arm == "none" else axes.arm]
        group, step = "-".join(word for word in words if word), round(100 * axes.sparsity)
        assert rows[f"{group}/accuracy", step] == network.science.accuracy.test
        assert rows[f"{group}/parameters", step] == network.science.parameters
        for attack in (each for each in seen.attacks if each.network is network):
            assert rows[f"{group}/{attack.name}/clean_accuracy", step] == attack.robust_accuracy(0)
            if attack.fixed:
                continue
            for eps in BUDGETS[attack.norm]:
                name = f"{group}/{attack.name}/robust_accuracy_at_{eps:g}"
                assert rows[name, step] == attack.robust_accuracy(eps)
                compared += 1
    assert compared > 4
    epochs = [row for row in wandb.rows if any(key.endswith("/loss") for key in row)]
    assert epochs
    assert set(wandb.metrics) >= {("plain-0/*", "plain-0/step")}
    # Nothing in the run folder differs from that of a run without a tracker.
    files = {path.relative_to(made_up): path.read_bytes() for path in (made_up / "cells").rglob("*.json")}
    write(made_up.parent / "without", GRID)
    assert files == {
        path.relative_to(made_up.parent / "without"): path.read_bytes()
        for path in (made_up.parent / "without" / "cells").rglob("*.json")
    }


def test_cells_are_logged_as_they_end(tmp_path):
    write(tmp_path, GRID)
    store, logged, heard = Store.open(tmp_path), [], []
    tell = listening(heard.append, lambda group, points: logged.append(group), tmp_path)
    cell = next(each for each in store.cells if each.stage == "train")
    tell(Event("ok", cell))
    assert not logged  # nothing is known before the run begins
    tell(Event("begin"))
    before = len(logged)
    tell(Event("tick", cell, done=1, total=2))
    tell(Event("ok", cell))
    assert logged[before:] == [cell.label, "plain/0"]
    assert [event.kind for event in heard] == ["ok", "begin", "tick", "ok"]


@pytest.mark.slow
def test_a_check_logs_both_networks_and_every_epoch(secateur, tmp_path, wandb):
    said = secateur(
        *(
            "check",
            "--model",
            "shipped:digits-plain",
            "--data",
            "digits:split",
            "--epochs",
            2,
            "--images",
            30,
        ),
        *("--steps", 5, "--budgets", "linf:0.05", "--sparsity", 0.3, "--out", tmp_path / "out", "--json"),
        *("--log-to", "wandb:checks"),
    )
    assert said.code == 0, said.err
    rows, lines = numbers(wandb.rows), {line["key"]: line for line in said.json["lines"]}
    for key in ("accuracy", "robust linf 0.05", "parameters"):
        for side in ("dense", "pruned"):
            assert rows[f"{side}/{key.replace(' ', '_')}", 0] == lines[key][side]
    losses = [rows["fine-tuning/loss", epoch] for epoch in (1, 2)]
    assert losses == [epoch["loss"] for epoch in said.json["epochs"]]
    assert wandb.projects == [("checks", "shipped:digits-plain")]


def test_tensorboard_reads_what_was_logged(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracked([f"tensorboard:{tmp_path}"], "seen") as log:
        log("train plain/0", [(1, {"loss": 0.5}), (2, {"loss": 0.25})])
        log("plain/0 l1", [(40, {"accuracy": 0.75})])
        log("plain/0 l1", [(60, {"accuracy": 0.5})])
    assert {path.name for path in tmp_path.iterdir()} == {"train-plain-0", "plain-0-l1"}
    for name, key, points in (
        ("train-plain-0", "loss", [(1, 0.5), (2, 0.25)]),
        ("plain-0-l1", "accuracy", [(40, 0.75), (60, 0.5)]),
    ):
        read = EventAccumulator(str(tmp_path / name)).Reload()
        assert [(event.step, event.value) for event in read.Scalars(key)] == points


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tensorbord:runs", "did you mean 'tensorboard'"),
        ("mlflow:runs", "write tensorboard:DIR, wandb:PROJECT or trackio:PROJECT"),
        ("wandb", "write tensorboard:DIR"),
        ("trackio:", "write tensorboard:DIR"),
    ],
)
def test_what_names_no_tracker_is_refused_before_anything_runs(secateur, made_up, text, said):
    found = secateur("run", "study.yaml", "--log-to", text)
    assert found.code == ExitCode.BAD_INPUT
    assert f"invalid --log-to {text}" in found.err
    assert said in found.err
    assert not made_up.exists()


@pytest.mark.parametrize("kind", tracking.KINDS)
def test_a_package_that_is_missing_is_one_sentence(secateur, made_up, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, kind, None)
    for command in (("run", "study.yaml"), ("check", "-m", "shipped:digits-plain", "-d", "digits:split")):
        said = secateur(*command, "--log-to", f"{kind}:place")
        assert said.code == ExitCode.ENVIRONMENT
        assert f"pip install {kind}" in said.err
        assert "Traceback" not in said.err
    assert not made_up.exists()


@pytest.mark.slow
def test_trackers_are_not_imported_unless_they_are_named(secateur, made_up, monkeypatch):
    for kind in tracking.KINDS:
        monkeypatch.setitem(sys.modules, kind, None)
    assert secateur("run", "study.yaml", "--progress", "none").code == 0


@pytest.mark.slow
def test_a_tracker_that_fails_does_not_end_the_study(secateur, made_up, monkeypatch, wandb):
    other = StandIn()
    monkeypatch.setitem(sys.modules, "trackio", other)
    wandb.fails = True
    said = secateur(
        "run", "study.yaml", "--progress", "none", "--json", "--log-to", "wandb:a", "--log-to", "trackio:b"
    )
    assert said.code == 0
    assert json.loads(said.out.splitlines()[-1])["ok"]
    assert said.err.count("--log-to wandb:a: ConnectionError: no route to host; nothing more is logged") == 1
    assert other.rows
    # Standard output is for results alone, whatever a tracker prints.
    assert [json.loads(line)["event"] for line in said.out.splitlines()] == ["begin", "end", "report"]
    assert {"welcome", "logged", "goodbye"} <= {*said.err.splitlines()}


def test_an_error_of_the_study_is_not_taken_for_one_of_the_tracker(wandb):
    def fail():
        with tracked(["wandb:a"], "seen") as log:
            log("group", [(0, {"accuracy": 1.0})])
            raise UserError("of the study")

    with pytest.raises(UserError, match="of the study"):
        fail()
    assert wandb.finished == 1
