from typing import get_args, get_type_hints

import pytest

from report.synthetic import Grid, write
from secateur.recipes import BIBTEX, Adversary, Penalty
from secateur.registry import ATTACKS, CHECKPOINTS, CRITERIA, DATASETS, MODELS, RATES
from secateur.report import cards as cards_module
from secateur.report.aggregate import aggregate
from secateur.report.cards import bibliography, cards
from secateur.report.load import load
from secateur.report.paired_changes import changes

SMALL = {"models": {"m": False}, "seeds": (0,), "sparsities": (0, 0.5), "failed": (), "grade_c": ()}


def cards_of(folder):
    grid = aggregate(load(folder))
    return dict(cards(grid, changes(grid)))


@pytest.mark.slow
def test_every_pruned_network_has_a_card_with_its_numbers_and_limits(grid, change):
    made = dict(cards(grid, change))
    pruned = [where for where in grid.networks if where.sparsity > 0]
    assert len(made) == len(pruned)
    card = made["robust-l1-0.4-standard.md"]
    assert "| parameters | 156,650 | 56,810 |" in card
    assert (
        "| DDN, L₂ ≤ 0.5 | 94 % | 82 % (73 to 88 %) | 92 % | 66 % (93 images, accuracy 93 %) |"
        in card.replace("\N{NO-BREAK SPACE}", " ")
    )
    assert "nothing certified" in card
    assert "2 trainings per network: no interval over trainings" in card
    assert card.count("secateur.load(") == 2


def test_a_card_of_an_unreliable_result_says_so(grid, change):
    card = dict(cards(grid, change))["plain-l1-0.6-standard.md"]
    assert "DDN, L₂ ≤ 0.5, grade C: F09" in card


def test_a_collapsed_network_is_called_that(tmp_path):
    def edit(cell, science):
        return science | {"collapsed": True} if cell["stage"] == "prune" else science

    made = cards_of(write(tmp_path / "run", Grid(edit=edit, **SMALL)))
    assert "**Collapsed.**" in made["m-l1-0.5-none.md"]
    assert "**Collapsed.**" not in made["m-l1-0.5-standard.md"]


def test_hostile_names_do_not_break_out_of_a_card(tmp_path):
    name = "a|b <script>\n# heading"
    made = cards_of(
        write(tmp_path / "run", Grid(**SMALL | {"models": {name: False}, "attacks": {name: 2.0}}))
    )
    assert all("/" not in file for file in made)
    for card in made.values():
        assert "<script>" not in card
        assert "\n# heading" not in card
        rows = [line for line in card.splitlines() if line.startswith("| a")]
        assert all(row.replace(r"\|", "").count("|") == 10 for row in rows)


def cited(folder):
    return bibliography(aggregate(load(folder)))


def test_only_what_a_study_uses_is_cited(tmp_path):
    recipe = {"epochs": 1, "adversary": {"epsilon": 0.1, "method": "trades"}, "distillation": {"weight": 1}}
    config = {"finetune": {"standard": recipe}}
    text = cited(write(tmp_path / "run", Grid(config=config, **SMALL | {"attacks": {"ddn": 2.0}})))
    keys = [line.split("{")[1].rstrip(",") for line in text.splitlines() if line.startswith("@")]
    assert keys == ["alpaydin1998", "fang2023", "hinton2015", "li2017", "rony2019", "zhang2019"]
    assert text.count("{") == text.count("}")


def test_what_has_no_known_reference_is_named(tmp_path):
    text = cited(write(tmp_path / "run", Grid(**SMALL | {"criteria": ("my_own",)})))
    assert text.startswith("% No reference is known here for: criterion my_own\n")


REGISTRIES = (ATTACKS, CHECKPOINTS, CRITERIA, DATASETS, MODELS, RATES)
# Images of one's own: nobody but their owner knows what to cite.
UNNAMED = {("dataset", "idx"), ("dataset", "folder"), ("dataset", "npz")}


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_every_name_of_ours_says_which_paper_it_is_from(registry):
    entries = cards_module._entries()
    for entry in registry.entries():
        if entry.target.startswith("secateur.") and (registry.kind, entry.name) not in UNNAMED:
            assert set(entry.facts["bibtex"]) <= set(entries), entry.name


def test_the_parts_of_a_recipe_say_which_paper_they_are_from():
    assert set(BIBTEX["penalty"]) == set(get_args(get_type_hints(Penalty)["kind"]))
    assert set(BIBTEX["adversary"]) == set(get_args(get_type_hints(Adversary)["method"]))
    assert {key for kinds in BIBTEX.values() for key in kinds.values()} <= set(cards_module._entries())


def test_no_entry_is_there_that_nothing_cites():
    used = {
        key
        for registry in REGISTRIES
        for entry in registry.entries()
        for key in entry.facts.get("bibtex", ())
    }
    assert set(cards_module._entries()) == used | {key for kinds in BIBTEX.values() for key in kinds.values()}


@pytest.mark.parametrize(
    ("attack", "key"),
    [
        ("sigma-zero", "cina2025"),
        ("alma", "rony2021"),
        ("square", "andriushchenko2020"),
        ("fgsm", "goodfellow2015"),
    ],
)
def test_an_attack_is_cited_by_its_registered_name(tmp_path, attack, key):
    text = cited(write(tmp_path / "run", Grid(**SMALL | {"attacks": {attack: 2.0}})))
    assert f"{{{key}," in text
    assert "No reference" not in text


def test_published_networks_and_official_images_are_cited(tmp_path):
    config = {
        "data": {"spec": "svhn:somewhere"},
        "models": {"a": {"arch": "robustbench:Wang2023Better_WRN-28-10"}, "b": {"arch": "preact-resnet18"}},
        "pruning": {"rates": "li2017:vgg16-a"},
    }
    text = cited(write(tmp_path / "run", Grid(config=config, **SMALL)))
    for key in ("croce2021", "wang2023", "zagoruyko2016", "he2016identity", "netzer2011", "li2017"):
        assert f"{{{key}," in text


def test_a_plug_in_brings_its_own_entry_or_its_summary(tmp_path, monkeypatch):
    for registry in (ATTACKS, CRITERIA):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    CRITERIA.register("mine", "own:mine", "mine (Doe 2026)", paper="arXiv:2601.00001")
    ATTACKS.register("theirs", "own:theirs", "theirs", bibtex=("@misc{doe2026,\n  title = {Theirs},\n}\n",))
    text = cited(write(tmp_path / "run", Grid(**SMALL | {"criteria": ("mine",), "attacks": {"theirs": 2.0}})))
    assert "% No reference is known here for: criterion mine: mine (Doe 2026): arXiv:2601.00001\n" in text
    assert "@misc{doe2026," in text
    assert "attack theirs" not in text
