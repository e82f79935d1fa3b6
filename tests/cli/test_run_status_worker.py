import json
import sys

import pytest

from report.synthetic import Grid, write
from secateur.config import parse_study
from secateur.errors import ExitCode
from secateur.store import Store
from secateur.study import join, plan, run_plan
from toy.study import EXECUTE, SMALL, run_toy, small_plan

COMPARED = {
    "models": {"robust": True},
    "criteria": ("l1",),
    "attacks": {"ddn": 2.0},
    "failed": (),
    "grade_c": (),
}


@pytest.mark.slow
def test_status_counts_the_cells_of_every_stage(secateur, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "prune")
    run_toy(tmp_path / "run")
    said = secateur("status", tmp_path / "run", "--json")
    assert said.code == 0
    assert said.json["counts"] == {"ok": 4, "failed": 4}
    assert said.json["failed"][0] == {
        "cell": "prune plain/0 l1 0.5",
        "sentence": "ArithmeticError: this toy breaks",
    }
    told = secateur("status", tmp_path / "run").out
    assert "failed: prune plain/0 l1 0.5: ArithmeticError: this toy breaks" in told
    assert "of work left for one job" in told


@pytest.mark.parametrize("verb", ["status", "worker"])
def test_a_folder_that_holds_no_run_is_a_mistake_in_one_sentence(secateur, tmp_path, verb):
    said = secateur(verb, tmp_path)
    assert said.code == 2
    assert "is not a run folder" in said.err
    assert "Traceback" not in said.err


@pytest.mark.slow
def test_a_worker_finds_nothing_to_do_in_a_finished_run(secateur, tmp_path):
    run_plan(plan(parse_study(SMALL)), tmp_path / "run", execute=EXECUTE)
    said = secateur("worker", tmp_path / "run", "--progress", "plain")
    assert said.code == 0
    assert "8 of 8 cells are done" in said.err


@pytest.mark.slow
def test_a_worker_passes_its_options_on_and_reports_failures(secateur, tmp_path, monkeypatch):
    Store.create(tmp_path / "run", small_plan().to_json())
    asked = {}

    def with_toys(folder, **options):
        asked.update(options)
        return join(folder, execute=EXECUTE, check_files=False, **options)

    monkeypatch.setattr("secateur.study.join", with_toys)
    monkeypatch.setenv("TOY_FAIL", "tune")
    said = secateur("worker", tmp_path / "run", "--jobs", "2", "--retry-failed", "--progress", "none")
    assert said.code == 3
    assert (asked["jobs"], asked["retry_failed"]) == (2, True)
    assert "4 cells failed" in said.err


def test_the_schema_is_one_json_document(secateur):
    said = secateur("schema")
    assert said.code == 0
    assert json.loads(said.out)["title"] == "A secateur study"


def test_ray_is_asked_for_by_name(secateur, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    study = tmp_path / "study.yaml"
    study.write_text("name: tiny\ndata: digits\nmodels: {plain: resnet-tiny}\n")
    said = secateur("run", study, "--out", tmp_path / "run", "--engine", "ray")
    assert said.code == 5
    assert "secateur[ray]" in said.err
    assert not (tmp_path / "run").exists()


def test_init_writes_a_study_that_can_be_planned_and_never_overwrites(secateur, tmp_path):
    path = tmp_path / "mine.yaml"
    said = secateur("init", path)
    assert said.code == 0
    assert f"secateur plan {path}" in said.out
    assert f"secateur run  {path}" in path.read_text()
    assert secateur("validate", path).code == 0
    path.write_text("precious")
    assert secateur("init", path).code == 2
    assert path.read_text() == "precious"


def test_init_refuses_unknown_presets_and_places(secateur, tmp_path):
    assert "did you mean 'digits'" in secateur("init", tmp_path / "a.yaml", "--preset", "digit").err
    assert secateur("init", tmp_path / "absent" / "a.yaml").code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_is_equivalent_to_itself_and_a_limit_is_a_gate(secateur, tmp_path):
    folder = write(tmp_path / "run", Grid(**COMPARED))
    said = secateur("compare", folder, folder, "--json")
    assert said.code == 0, said.err
    assert {row["verdict"] for row in said.json["rows"]} == {"equivalent", "too few images"}
    gate = secateur("compare", folder, folder, "--fail-if", "accuracy>-0.5", "--out", tmp_path / "page")
    assert gate.code == ExitCode.LIMIT_BROKEN == 6
    assert "limit broken" in gate.out
    assert (tmp_path / "page" / "comparison.html").exists()


def test_a_limit_that_cannot_be_read_is_refused(secateur, tmp_path):
    folder = write(tmp_path / "run", Grid(**COMPARED))
    said = secateur("compare", folder, folder, "--fail-if", "median is bad")
    assert said.code == 2
    assert "median<-5%" in said.err


def test_a_report_can_be_written_elsewhere(secateur, tmp_path, monkeypatch):
    monkeypatch.setattr("secateur.report.figures.plans", lambda grid, change: [])
    run = write(tmp_path / "run", Grid(name="kept", sparsities=(0.0, 0.4), **COMPARED))
    said = secateur("report", run, "--out", tmp_path / "results")
    assert said.code == 0
    assert (tmp_path / "results" / "index.html").exists()
    assert not (run / "report").exists()
