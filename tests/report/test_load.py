import json
import subprocess
import sys

import numpy as np
import pytest

from report.synthetic import Grid, write
from secateur.errors import ExitCode, UserError
from secateur.hashing import digest
from secateur.report import records
from secateur.report.arrays import LEFT_OUT
from secateur.report.load import load
from secateur.store import Store


def attack_at(study, **axes):
    (found,) = [a for a in study.attacks if all(getattr(a.axes, k) == v for k, v in axes.items())]
    return found


def test_every_attack_is_joined_with_the_network_that_it_attacked(study):
    roles = {
        (0.0, "none"): ("train", "dense"),
        (0.0, "standard"): ("tune", "dense_tuned"),
        (0.4, "none"): ("prune", "untuned"),
        (0.4, "standard"): ("tune", "pruned"),
    }
    for attack in study.attacks:
        where = (attack.axes.sparsity, attack.axes.arm)
        if where in roles:
            assert (attack.network.stage, attack.role) == roles[where]
        assert (attack.network.axes.model, attack.network.axes.seed) == (attack.axes.model, attack.axes.seed)


def test_a_failed_cell_and_everything_below_it_are_holes_with_reasons(study):
    kinds = [(hole.stage, hole.kind) for hole in study.holes]
    assert kinds.count(("prune", "failed")) == 1
    assert [kind for stage, kind in kinds if stage != "prune"] == ["blocked"] * 5
    (failed,) = [hole for hole in study.holes if hole.kind == "failed"]
    assert "can lose 80 %" in failed.reason
    assert "Traceback" in failed.detail


@pytest.mark.slow
def test_a_cell_that_has_not_run_is_a_hole(tmp_path):
    absent = (("tune", "plain", 0, "l1", 0.4, "standard", None),)
    study = load(write(tmp_path / "run", Grid(models={"plain": False}, absent=absent, failed=())))
    assert {(hole.stage, hole.kind) for hole in study.holes} == {("tune", "missing"), ("attack", "blocked")}


def test_a_clean_image_that_a_failed_attack_returned_is_infinitely_far(tiny):
    # Published attacks return the clean image when they fail: distance 0 looks like the most fragile image.
    images = [("not_found", 0.0), ("found", 2.0), ("already_wrong", 0.7)]
    study = load(tiny(dict.fromkeys([(s, a, 0) for s in (0.0, 0.5) for a in ("none", "standard")], images)))
    assert study.attacks[0].distances["l2"].tolist() == [np.inf, 2.0, 0.0]


def test_a_distance_that_decides_over_the_outcome_is_caught(tiny, monkeypatch):
    def believing(attack, values):
        return np.where(np.isnan(values), np.inf, values)

    monkeypatch.setattr(records, "_distances", believing)
    with pytest.raises(AssertionError):
        test_a_clean_image_that_a_failed_attack_returned_is_infinitely_far(tiny)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accuracy", "images", "classes", "near"),
    [(0.2, 100, 10, True), (0.36, 100, 10, False), (0.2, 10, 10, False), (0.2, 100, 100, False)],
)
def test_a_record_without_check_f24_is_near_chance_by_its_rule(tmp_path, accuracy, images, classes, near):
    def edit(cell, science):
        if cell["stage"] == "attack":
            return science
        return science | {"accuracy": {"test": accuracy}, "collapsed": False}

    made = Grid(models={"plain": False}, failed=(), images=images, classes=classes, edit=edit)
    assert {network.collapsed for network in load(write(tmp_path / "run", made)).networks} == {near}


def test_what_was_seen_of_a_network_and_its_images_is_told_once(tmp_path):
    def edit(cell, science):
        return science | {"notes": ["trained on these images"]} if cell["stage"] == "train" else science

    made = Grid(models={"plain": False}, criteria=("l1",), failed=(), images=10, edit=edit)
    assert load(write(tmp_path / "run", made)).notes == ("plain: trained on these images",)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda science: science["outcome"].__setitem__(0, "maybe"),
        lambda science: science["hashes"].pop(),
        lambda science: science["distances"]["l2"].pop(),
        lambda science: science.pop("distances"),
        lambda science: science.__setitem__("norm", "l3"),
        lambda science: science.__setitem__("grade", "A+"),
        lambda science: science["distances"]["l2"].__setitem__(science["outcome"].index("found"), None),
    ],
    ids=["outcome", "hashes", "distances", "no distances", "norm", "grade", "found without distance"],
)
def test_a_record_that_makes_no_sense_becomes_a_hole(tmp_path, change):
    def edit(cell, science):
        if cell["stage"] == "attack" and cell["axes"]["arm"] == "none" and cell["axes"]["sparsity"] == 0:
            change(science)
        return science

    grid = Grid(models={"plain": False}, seeds=(0,), attacks={"ddn": 2.0}, failed=(), edit=edit)
    study = load(write(tmp_path / "run", grid))
    assert [(hole.kind, hole.role) for hole in study.holes] == [("damaged", "dense")]
    assert "cannot be used" in study.holes[0].reason


def test_an_edited_record_becomes_a_hole(tmp_path):
    folder = write(tmp_path / "run", Grid(models={"plain": False}, seeds=(0,), failed=()))
    victim = next(cell for cell in Store.open(folder).cells if cell.stage == "attack")
    path = folder / "cells" / victim.id[:2] / victim.id / "record.json"
    path.write_text(path.read_text().replace('"grade": "A"', '"grade": "B"'))
    (hole,) = load(folder).holes
    assert (hole.id, hole.kind) == (victim.id, "damaged")
    assert "edited" in hole.reason


def test_a_folder_without_a_study_is_refused_with_one_sentence(tmp_path):
    with pytest.raises(UserError) as refused:
        load(tmp_path)
    assert refused.value.code is ExitCode.BAD_INPUT


def test_a_record_of_a_newer_version_is_a_gap_that_says_so(tmp_path):
    folder = write(tmp_path / "run", Grid(models={"plain": False}, seeds=(0,), failed=()))
    path = next(folder.glob("cells/*/*/record.json"))
    record = {**json.loads(path.read_text()), "schema_version": 99}
    record.pop("self_hash")
    path.write_text(json.dumps({**record, "self_hash": digest(record)}))
    assert any("written by a newer secateur" in hole.reason for hole in load(folder).holes)


def test_environments_name_versions_but_no_host(study):
    ((environment, cells),) = study.environments
    assert "torch 2.13.0" in environment
    assert "desk" not in environment
    assert cells == 216 - 5


@pytest.mark.slow
def test_reports_need_no_torch(tmp_path):
    settings = {"models": {"m": False}, "criteria": ("l1",), "attacks": {"ddn": 2.0}, "seeds": (0,)}
    grid = Grid(sparsities=(0, 0.5), failed=(), grade_c=(), **settings)
    code = (
        "import sys; from secateur.report import report, terminal_table;"
        f"folder = {str(write(tmp_path / 'run', grid))!r}; report(folder); terminal_table(folder);"
        "assert 'torch' not in sys.modules;"
        # What only files need is imported for files alone.
        "assert 'matplotlib.backends.backend_pdf' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("norm", [1000, 10**400, "seven", {"a": 1}])
def test_a_norm_that_is_none_has_no_budgets(tmp_path, norm):
    """As in a study that somebody else has made: sealed, and of the right shape otherwise."""
    folder = write(tmp_path / "run", Grid(models={"plain": False}, seeds=(0,), failed=()))
    path = folder / "study.json"
    study = json.loads(path.read_text())
    study.pop("self_hash")
    (cell,) = [cell for cell in study["cells"] if cell["stage"] == "attack"][-1:]
    cell["settings"] |= {"attack": "ddn", "norm": norm}
    path.write_text(json.dumps({**study, "self_hash": digest(study)}))
    assert load(folder).attacks


def test_rows_hold_no_long_list_twice_and_all_short_numbers_of_the_record(tmp_path):
    def edit(cell, science):
        return science | {"history": [{"loss": 0.5}]} if cell["stage"] == "train" else science

    folder = write(tmp_path / "run", Grid(models={"plain": False}, seeds=(0,), failed=(), edit=edit))
    study, store = load(folder), Store.open(folder)
    for row in (*study.networks, *study.attacks):
        recorded, kept = store.record(row.id).science.to_json(), row.science.to_json()
        long = {name for name in recorded if kept[name] != recorded[name]}
        assert long <= set(LEFT_OUT)
        assert not any(kept[name] for name in long)
    for attack in study.attacks:
        science = store.record(attack.id).science
        right = [i for i, outcome in enumerate(science.outcome) if outcome != "already_wrong"]
        assert attack.forwards == pytest.approx(np.mean([science.num_forwards[i] for i in right]))
        assert attack.backwards == pytest.approx(np.mean([science.num_backwards[i] for i in right]))
        assert attack.hashes == tuple(science.hashes)
        for norm, values in attack.recorded.items():
            known = [np.nan if value is None else value for value in science.distances[norm]]
            assert np.array_equal(values, known, equal_nan=True)
    assert {id(attack.hashes) for attack in study.attacks} == {id(study.attacks[0].hashes)}
