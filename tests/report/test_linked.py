"""The data of the page's control: no name ends its script, no number says more than the tables do."""

import json

import pytest

from report.surfaces import data_of, show
from report.synthetic import Grid, write
from secateur.report import linked
from secateur.report.linked import curve_axis, linked_data, script_json
from secateur.report.robustness import budgets_top

HOSTILE = "</script><script>alert('x')</script><!-- \u2028 ]]>"


def check_that_names_stay_inside(text):
    assert not set("<>&'\u2028") & set(text)
    assert json.loads(text) == {"name": HOSTILE}


def test_no_name_ends_the_script():
    check_that_names_stay_inside(script_json({"name": HOSTILE}))


def test_json_as_it_comes_is_caught():
    with pytest.raises(AssertionError):
        check_that_names_stay_inside(json.dumps({"name": HOSTILE}))


def test_hostile_names_reach_the_control_unchanged(tmp_path):
    settings = {"criteria": ("l1",), "sparsities": (0.0, 0.5), "seeds": (0,), "failed": (), "grade_c": ()}
    shown = show(write(tmp_path / "run", Grid(models={HOSTILE: False}, attacks={"a</b>": 2.0}, **settings)))
    data = data_of(shown.html)
    assert data["models"] == [{"name": HOSTILE, "robust": False}]
    assert data["attacks"][0]["name"] == "a</b>"
    assert shown.html.count("</script>") == 2


def test_numbers_that_are_no_json_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json({"share": float("nan")})


def test_every_number_has_its_accuracy_its_images_and_its_interval(grid, change):
    data = linked_data(grid, change)
    stated = [point for point in data["points"] if point.get("robust")]
    assert len(stated) > 60
    for point in stated:
        for mean, low, high, text, interval in (point["clean"], *filter(None, point["robust"])):
            assert low <= mean <= high
            assert text.endswith("%")
            assert " to " in interval
        assert point["images"] == 100
        assert "image" in point["n"]
        assert "training" in point["n"]
    failed = [point for point in data["points"] if point["grade"] == "X"]
    assert all(point["word"] and "robust" not in point for point in failed)


def test_attacks_of_one_norm_share_the_axis_of_their_curves(tmp_path):
    attacks = {"ddn": 2.0, "fmn-l2": 2.0}

    def edit(cell, science):
        if cell["axes"]["attack"] != "ddn":
            return science
        nearer = {norm: [d and d / 3 for d in values] for norm, values in science["distances"].items()}
        return science | {"distances": nearer}

    settings = {
        "models": {"m": False},
        "criteria": ("l1",),
        "sparsities": (0.0, 0.5),
        "failed": (),
        "grade_c": (),
    }
    grid = show(write(tmp_path / "run", Grid(attacks=attacks, seeds=(0,), edit=edit, **settings))).grid
    ends = {attack: float(curve_axis(grid, attack)[-1]) for attack in attacks}
    assert set(ends.values()) == {budgets_top(grid, "l2")}
    assert ends["ddn"] > 0


def test_points_are_numbered_in_the_order_of_the_table(grid, change):
    numbers, data = linked.point_numbers(grid), linked_data(grid, change)
    for where, i in numbers.items():
        point = data["points"][i]
        criterion = "" if point["criterion"] is None else data["criteria"][point["criterion"]]
        named = data["models"][point["model"]]["name"], criterion, point["sparsity"], point["attack"]
        assert named == (where.model, where.criterion, where.sparsity, where.attack)
