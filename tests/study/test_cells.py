import hashlib
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.config import load_study, parse_study, recipe_from, study_from_json
from secateur.errors import UserError
from secateur.hashing import canonical_json, digest
from secateur.recipes import Recipe
from secateur.registry import ATTACKS
from secateur.store import Store
from secateur.study import Facts, StudyPlan, grid, plan_of
from secateur.study import cells as cells_module
from secateur.study import plan as make_plan
from toy.numbers import record_of
from toy.study import FACTS, SMALL, small_plan

FULL = """
name: full
seed: 3
data: digits
models:
  plain: resnet-tiny
  robust: {arch: resnet-tiny, recipe: {epochs: 4, adversary: {epsilon: 0.1, step_size: 0.05}}}
criteria: [l1, random]
sparsities: [0, 0.25, 0.5]
finetune: {standard: {epochs: 2}, gentle: {epochs: 2, learning_rate: 0.001}}
seeds: [0, 1]
attacks:
  ddn: {steps: 10}
  fmn-linf: {attack: fmn, norm: inf, steps: 10}
images: 20
"""


def by_place(plan):
    return {(cell.stage, canonical_json(cell.axes)): cell.id for cell in plan.cells}


def changed(before, after):
    """The stages and arms of the cells whose ids differ between two plans with the same places."""
    one, two = by_place(before), by_place(after)
    assert one.keys() == two.keys()
    return {
        (stage, json.loads(axes)["arm"], json.loads(axes)["attack"])
        for (stage, axes) in one
        if one[stage, axes] != two[stage, axes]
    }


def test_the_grid_has_every_point_once_and_shares_sparsity_zero():
    plan = small_plan(FULL)
    networks = 2 * 2  # models, seeds
    pruned = networks * 2 * 2  # criteria, sparsities above 0
    tuned = (networks + pruned) * 2
    assert plan.counts == {
        "train": networks,
        "prune": pruned,
        "tune": tuned,
        "attack": 2 * (networks + pruned + tuned),
    }
    assert len({cell.id for cell in plan.cells}) == len(plan.cells)


def test_parents_come_before_children():
    seen = {None}
    for cell in small_plan(FULL).cells:
        assert cell.parent in seen
        seen.add(cell.id)


def test_roles_say_what_a_cell_is_compared_as():
    roles = {
        (cell.axes["sparsity"] > 0, cell.axes["arm"] != "none"): cell.role for cell in small_plan(FULL).cells
    }
    assert roles == {
        (False, False): "dense",
        (False, True): "dense_tuned",
        (True, False): "untuned",
        (True, True): "pruned",
    }


@pytest.mark.parametrize(
    ("control", "role"), [("dense", "dense"), ("dense_tuned", "dense_tuned"), ("untuned", "untuned")]
)
def test_a_control_that_is_switched_off_is_not_attacked(control, role):
    plan = small_plan(FULL, overrides=["sparsities=[0.5]", f"controls.{control}=false"])
    attacked = {cell.role for cell in plan.cells if cell.stage == "attack"}
    assert attacked == {"dense", "dense_tuned", "untuned", "pruned"} - {role}


def test_without_arms_the_pruned_networks_are_attacked_as_they_are():
    plan = small_plan(FULL, overrides=["finetune={}", "controls={untuned: false}"])
    assert plan.counts["attack"] == 2 * (4 + 16)


ATTACK = {("attack", arm, "ddn") for arm in ("none", "standard", "gentle")}
ALL_ATTACKS = ATTACK | {("attack", arm, "fmn-linf") for arm in ("none", "standard", "gentle")}
TUNED = {("tune", "standard", None), ("attack", "standard", "ddn"), ("attack", "standard", "fmn-linf")}
EVERYTHING_PRUNED = ALL_ATTACKS | TUNED | {("prune", "none", None), ("tune", "gentle", None)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("attacks.ddn.steps=11", ATTACK),
        ("attacks.ddn.gamma=0.1", ATTACK),
        ("attacks.ddn.early_stop=true", ATTACK),
        ("attacks.ddn.search_precision=bfloat16", ATTACK),
        ("attacks.ddn.compile=true", ATTACK),
        ("images=19", ALL_ATTACKS),
        ("finetune.standard.epochs=3", TUNED),
        ("pruning.scope=global", EVERYTHING_PRUNED),
        ("models.plain.recipe={epochs: 7}", EVERYTHING_PRUNED | {("train", "none", None)}),
        ("seed=4", EVERYTHING_PRUNED | {("train", "none", None)}),
    ],
)
def test_a_changed_setting_changes_exactly_the_cells_that_depend_on_it(override, stages):
    assert changed(small_plan(FULL), small_plan(FULL, overrides=[override])) == stages


def test_one_model_can_change_without_the_other():
    before = small_plan(FULL)
    after = small_plan(FULL, overrides=["models.robust.recipe.adversary.epsilon=0.2"])
    same = {cell.id for cell in before.cells} & {cell.id for cell in after.cells}
    assert same == {cell.id for cell in before.cells if cell.axes["model"] == "plain"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "batch_size=7",
        "threads=2",
        "device=cuda",
        "epsilons=[0.1, 0.2]",
        "epsilons={l2: [0.5], linf: [1/255]}",
        "data.spec=digits",
        "models.plain.recipe={checkpoint_every: 1}",
        "models.plain.robust=true",
        "attacks.ddn.norm=2",
        "attacks.ddn.early_stop=false",
        "attacks.ddn.search_precision=float32",
        "attacks.ddn.compile=false",
    ],
)
def test_what_changes_no_number_changes_no_id(override):
    assert by_place(small_plan(FULL)) == by_place(small_plan(FULL, overrides=[override]))


def test_labels_are_no_part_of_an_id():
    renamed = FULL.replace("plain:", "other:").replace("standard:", "usual:").replace("fmn-linf:", "fmn:")
    assert {c.id for c in small_plan(FULL).cells} == {c.id for c in small_plan(renamed).cells}


def test_other_data_or_weights_change_every_id():
    before = {cell.id for cell in small_plan(SMALL).cells}
    assert not before & {cell.id for cell in small_plan(SMALL, fingerprint="e" * 64).cells}
    assert not before & {cell.id for cell in small_plan(SMALL, weights={"plain": "a" * 64}).cells}


def test_a_raised_science_version_changes_its_stage_and_what_follows(monkeypatch):
    before = small_plan(FULL)
    monkeypatch.setattr(cells_module, "SCIENCE", {**cells_module.SCIENCE, "tune": 2})
    stages = {(stage, arm) for stage, arm, _ in changed(before, small_plan(FULL))}
    assert stages == {("tune", "standard"), ("tune", "gentle"), ("attack", "standard"), ("attack", "gentle")}


def test_a_raised_version_of_distillation_changes_the_cells_that_have_one(monkeypatch):
    text = FULL.replace("standard: {", "standard: {distillation: {}, ")
    assert text != FULL
    before, plain = small_plan(text), small_plan(FULL)
    monkeypatch.setattr(cells_module, "TAUGHT", cells_module.TAUGHT + 1)
    assert {(stage, arm) for stage, arm, _ in changed(before, small_plan(text))} == {
        ("tune", "standard"),
        ("attack", "standard"),
    }
    assert [cell.id for cell in small_plan(FULL).cells] == [cell.id for cell in plain.cells]


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_changes_nothing(random):
    def shuffled(value):
        if not isinstance(value, dict):
            return value
        keys = list(value)
        random.shuffle(keys)
        return {key: shuffled(value[key]) for key in keys}

    plain = parse_study(FULL).resolved()
    again = parse_study(json.dumps(shuffled(plain)).replace('"inf"', ".inf"))
    assert {c.id for c in grid(again, FACTS)} == {c.id for c in grid(parse_study(FULL), FACTS)}


def test_defaults_spelled_out_and_integers_for_floats_are_the_same_study():
    spelled = SMALL.replace("sparsities: [0, 0.5]", "sparsities: [0.0, 5e-1]\ncriteria: [l1]\nseed: 0")
    spelled = spelled.replace("{epochs: 2}", "{epochs: 2, momentum: 0.9, augment: null}")
    assert by_place(small_plan(SMALL)) == by_place(small_plan(spelled))


@pytest.mark.slow
def test_ids_do_not_depend_on_the_process_or_its_hash_seed():
    code = "from toy.study import *; print([(cell.id, cell.seed) for cell in small_plan().cells])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
    assert small_plan().cells[0].id in outputs.pop()


def test_an_id_is_the_digest_of_all_that_the_numbers_depend_on():
    for cell in small_plan(FULL).cells:
        identity = {
            "stage": cell.stage,
            "science": cells_module.SCIENCE[cell.stage],
            "settings": cells_module._science(cell.settings),
            "parent": cell.parent,
        }
        assert cell.id == digest(identity)[: cells_module.ID_DIGITS]


def test_what_many_cells_share_is_spelled_once(monkeypatch):
    spelled = []
    monkeypatch.setattr(cells_module, "_science", lambda settings: spelled.append(settings) or settings)
    cells = small_plan(FULL).cells
    attacks = [cell for cell in cells if cell.stage == "attack"]
    assert len({id(cell.settings) for cell in attacks}) == 2 < len(attacks)
    assert sum("attack" in settings for settings in spelled) == 2


def test_the_ids_of_a_known_study_never_change():
    """If this fails, cells computed by earlier versions are orphaned.

    That is right only if their numbers have changed: then raise SCIENCE for the stage, and these values.
    """
    assert [cell.id[:12] for cell in small_plan().cells[:5]] == [
        "c66d67ccc409",
        "00710b91a2ac",
        "c0092be05070",
        "215109d4fc7a",
        "5e59fa85d91a",
    ]


@pytest.mark.slow
def test_the_ids_of_the_published_cells_are_those_of_their_study():
    """Every id in ``results/cifar10-small`` is what the study in it gives now, and no other."""
    with tarfile.open(ROOT / "results" / "cifar10-small" / "records.tar.xz") as archive:
        published = json.load(archive.extractfile("study.json"))
    study, facts = study_from_json(published["config"]), Facts.from_json(published["facts"])
    assert {cell.id for cell in grid(study, facts)} == {cell["id"] for cell in published["cells"]}
    assert len(published["cells"]) == 1050
    again = study.model_copy(update={"attacks": {"ddn": study.attacks["ddn"].model_copy(update=EARLY)}})
    assert not {cell.id for cell in grid(again, facts) if cell.stage == "attack"} & {
        cell["id"] for cell in published["cells"]
    }


def test_the_ids_of_the_three_trainings_are_those_of_their_study():
    with tarfile.open(ROOT / "results" / "cifar10-seeds" / "records.tar.xz") as archive:
        published = json.load(archive.extractfile("study.json"))
    study, facts = study_from_json(published["config"]), Facts.from_json(published["facts"])
    assert len(published["cells"]) == 315
    # FMN has another science since: its cells are attacked anew, those of DDN are what they were.
    kept, before = (
        {cell["id"] for cell in some if cell["settings"].get("attack") != "fmn"}
        for some in ([cell.to_json() for cell in grid(study, facts)], published["cells"])
    )
    assert kept == before
    assert len(kept) > 200


@pytest.mark.parametrize("name", ["ddn", "fmn"])
def test_a_raised_science_of_one_attack_changes_its_cells_alone(name, monkeypatch):
    before = small_plan(FULL)
    facts = {**ATTACKS.entry(name).facts, "science": 99}
    changed_row = replace(ATTACKS.entry(name), facts=facts)
    entry = ATTACKS.entry
    monkeypatch.setattr(ATTACKS, "entry", lambda asked: changed_row if asked == name else entry(asked))
    ids = {cell.id for cell in before.cells}
    anew = [cell for cell in small_plan(FULL).cells if cell.id not in ids]
    assert {cell.settings["attack"] for cell in anew} == {name}
    assert len(anew) == sum(cell.settings.get("attack") == name for cell in before.cells)


EARLY = {"early_stop": True}
ROOT = Path(__file__).parents[2]
IDS = {
    "cifar10-seeds.yaml": "eb8985c66aa96360",
    "cifar10-small.yaml": "f8bfe81510c8e3a3",
    "demo.yaml": "244be0cab1a52052",
    "li2017-resnet56.yaml": "5a57fcef22f42e59",
    "thesis.yaml": "353bee7a5cea73cc",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_the_ids_of_the_studies_in_this_repository_never_change(name):
    """As above: an id that changes without need throws away what somebody has computed."""
    cells = grid(load_study(ROOT / "studies" / name), FACTS)
    assert hashlib.sha256("".join(cell.id for cell in cells).encode()).hexdigest()[:16] == IDS[name]


def test_more_training_images_than_are_measured_give_other_cells():
    """The accuracy of a sample is another number; up to its size nothing changes."""
    sizes = (cells_module.TRAIN_SAMPLE, cells_module.TRAIN_SAMPLE + 1)
    whole, sampled = (small_plan(FULL, train=size) for size in sizes)
    assert {cell.id for cell in whole.cells} == {cell.id for cell in small_plan(FULL).cells}
    assert not {cell.id for cell in whole.cells} & {cell.id for cell in sampled.cells}
    told = [(cell.stage in ("train", "tune"), cell.settings.get("train_sample")) for cell in sampled.cells]
    assert set(told) == {(True, 10_000), (False, None)}
    assert all("train_sample" not in cell.settings for cell in whole.cells)
    dense = [laid.costs[laid.cells[0].id].forwards for laid in (whole, sampled)]
    assert dense[1] - dense[0] == laid_epochs(whole)


def laid_epochs(laid):
    """How often a network of a plan sees each of its training images."""
    return laid.cells[0].settings["recipe"]["epochs"]


def test_a_setting_that_a_later_version_adds_orphans_nothing(monkeypatch):
    before = [cell.id for cell in small_plan(FULL).cells]

    @dataclass(frozen=True)
    class Later(Recipe):
        brand_new: float = 0.0

    def later(data):
        plain = recipe_from({name: value for name, value in data.items() if name != "brand_new"})
        return Later(
            **{f.name: getattr(plain, f.name) for f in fields(Recipe)}, brand_new=data.get("brand_new", 0)
        )

    monkeypatch.setattr(cells_module, "recipe_from", later)
    assert [cell.id for cell in small_plan(FULL).cells] == before


def test_every_cell_draws_from_its_own_seed():
    seeds = [cell.seed for cell in small_plan(FULL).cells]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_cell_survives_json():
    for cell in small_plan(FULL).cells:
        again = type(cell).from_json(json.loads(json.dumps(cell.to_json())))
        assert canonical_json(again.to_json()) == canonical_json(cell.to_json())
        assert (again.id, again.seed, again.label) == (cell.id, cell.seed, cell.label)


def test_an_attack_of_one_step_has_no_steps_in_its_cells_nor_in_its_cost():
    plan = small_plan(FULL, overrides=["attacks={fgsm: {norm: inf}}"])
    attacks = [cell for cell in plan.cells if cell.stage == "attack"]
    assert attacks
    assert all("steps" not in cell.settings for cell in attacks)
    assert plan.costs[attacks[0].id].backwards == attacks[0].settings["images"]
    assert grid(study_from_json(plan.study.resolved()), FACTS) == plan.cells


def test_facts_are_plain_data():
    assert json.loads(json.dumps(Facts("a", 1, 2, 3, (1, 8, 8), 10).to_json()))["shape"] == [1, 8, 8]


def test_only_the_attack_cells_of_ddn_know_how_a_study_runs_it():
    """What a study leaves out of DDN is in its resolved settings, so saying it changes no id."""
    plain = small_plan(FULL)
    said = small_plan(FULL, overrides=["attacks.ddn.loss=difference", "attacks.ddn.levels=null"])
    assert by_place(plain) == by_place(said)
    assert plain.study.resolved()["attacks"]["ddn"]["loss"] == "difference"
    assert plain.study.resolved()["attacks"]["ddn"]["levels"] is None
    again = study_from_json(plain.study.resolved())
    assert again.attacks["ddn"].own == {"loss": "difference", "levels": None}
    literal = small_plan(FULL, overrides=["attacks.ddn.loss=cross_entropy", "attacks.ddn.levels=256"])
    assert {(stage, attack) for stage, _, attack in changed(plain, literal)} == {("attack", "ddn")}


@pytest.mark.parametrize("preset", ["thesis", "thesis-literal"])
def test_the_thesis_says_how_it_runs_ddn(preset):
    study = load_study(ROOT / "src" / "secateur" / "config" / "presets" / f"{preset}.yaml")
    assert study.attacks["ddn"].own == {"loss": "cross_entropy", "levels": 256}


PGD = "attacks={pgd: {norm: inf, steps: 10, eps: %s}}"


def test_the_order_of_sizes_is_no_part_of_an_id():
    one, other = (small_plan(overrides=[PGD % eps]) for eps in ("[1/255, 2/255]", "[2/255, 1/255]"))
    assert by_place(one) == by_place(other)
    assert changed(one, small_plan(overrides=[PGD % "[1/255, 3/255]"]))
    assert one.study.resolved()["attacks"]["pgd"]["eps"] == [1 / 255, 2 / 255]


def test_an_attack_at_several_sizes_costs_as_much_as_one_at_each():
    def costs(eps):
        plan = small_plan(overrides=[PGD % eps])
        return [plan.costs[cell.id].backwards for cell in plan.cells if cell.stage == "attack"]

    assert costs("[0, 0.1, 0.2]") == [2 * cost for cost in costs("0.1")]


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ("{attack: pgd, norm: inf, eps: []}", "eps is"),
        ("{attack: pgd, norm: inf, eps: [0.1, -0.1]}", "eps lists -0.1"),
        ("{attack: pgd, norm: inf, eps: [0.1, 0.1]}", "twice"),
        ("{attack: pgd, norm: inf, eps: [0]}", "eps lists only 0"),
        ("{attack: pgd, norm: inf, eps: [0.1, big]}", "eps lists 'big'"),
        ("{attack: fmn, norm: inf, eps: [0.1, 0.2]}", "epsilons"),
    ],
)
def test_sizes_that_are_none_are_refused_with_their_line(attack, said):
    with pytest.raises(UserError, match=said) as refused:
        parse_study(SMALL, overrides=[f"attacks={{a: {attack}}}"])
    assert "attacks" in str(refused.value)


SPELLED = {
    "ddn": ({"steps": 10}, {"gamma": 0.05, "schedule": "cosine", "init_eps": 1, "alpha_final": 1e-2}),
    "fmn": ({"norm": "inf", "steps": 10}, {"gamma": 0.05, "escape": True, "alpha": 1.0}),
    "pgd": ({"norm": "inf", "eps": 0.1, "steps": 3}, {"step": None, "loss": "ce", "random_start": True}),
}


def only(name, settings):
    return "attacks=" + json.dumps({name: settings}).replace('"inf"', "inf")


@pytest.mark.parametrize("name", SPELLED)
def test_a_default_of_an_attack_that_is_spelled_out_changes_no_id(name):
    """The ids are those of the shorter form, which published studies have."""
    short, more = SPELLED[name]
    plain = small_plan(FULL, overrides=[only(name, short)])
    assert {cell.id for cell in plain.cells} == {cell.id for cell in grid(plain.study, FACTS)}
    for key, value in more.items():
        one = small_plan(FULL, overrides=[only(name, {**short, key: value})])
        assert by_place(one) == by_place(plain)
    every = small_plan(FULL, overrides=[only(name, {**short, **more})])
    assert by_place(every) == by_place(plain)
    assert every.study.resolved() == plain.study.resolved()


def test_a_length_is_a_default_only_in_the_units_of_the_images():
    def ids(overrides, **facts):
        return by_place(small_plan(FULL, overrides=[f"attacks={{ddn: {{steps: 10{overrides}}}}}"], **facts))

    wide = {"bounds": (0.0, 255.0)}
    assert ids(", init_eps: 255", **wide) == ids("", **wide)
    assert ids(", init_eps: 1", **wide) != ids("", **wide)
    assert ids(", init_eps: 255") != ids("")


def test_a_study_that_began_with_a_default_spelled_out_keeps_its_ids(tmp_path):
    study = parse_study(FULL, overrides=["attacks={ddn: {steps: 10, gamma: 0.05}}"])
    before = StudyPlan(study, FACTS, grid(study, FACTS))
    store = Store.create(tmp_path / "run", before.to_json())
    store.commit(record_of(before.cells[0]))
    again = make_plan(study, out=tmp_path / "run", facts=FACTS)
    assert [cell.id for cell in again.cells] == [cell.id for cell in before.cells]
    assert again.done == {before.cells[0].id}
    assert plan_of(store).cells == store.cells
    assert [cell.id for cell in make_plan(study, facts=FACTS).cells] != [cell.id for cell in before.cells]


def test_the_version_of_an_attack_is_that_of_its_numbers():
    """An attack whose numbers move gets the next version here too, so that its cached cells are run again.

    The six last ones were raised when gradients that are not finite were mended entry by entry, and APGD once
    more when its checkpoints and successes became those of the paper.
    """
    kept = {"ddn": 1, "fmn": 2, "steep": 8, "strongest": 7, "noise": 3, "square": 3}
    raised = {"sigma-zero": 2, "alma": 3, "pdpgd": 4, "pgd": 4, "apgd": 5, "fgsm": 4}
    versions = {entry.name: entry.facts.get("science", 1) for entry in ATTACKS.entries()}
    assert versions == kept | raised
    text = FULL.replace(
        "  ddn: {steps: 10}\n", "  pgd: {norm: inf, eps: 0.1, steps: 10}\n  ddn: {steps: 10}\n"
    )
    asked = {
        cell.settings["attack"]: cell.settings["attack_version"]
        for cell in small_plan(text).cells
        if cell.stage == "attack"
    }
    assert asked == {"ddn": 1, "fmn": 2, "pgd": 4}
