import pytest

from report.synthetic import Grid, write
from secateur.report import citations
from secateur.report.aggregate import aggregate
from secateur.report.cards import cards
from secateur.report.changes import changes
from secateur.report.citations import bibliography
from secateur.report.load import load

SMALL = {"models": {"m": False}, "seeds": (0,), "sparsities": (0, 0.5), "failed": (), "grade_c": ()}


def cards_of(folder):
    grid = aggregate(load(folder))
    return dict(cards(grid, changes(grid)))


def test_every_pruned_network_has_a_card_with_its_numbers_and_limits(grid, change):
    made = dict(cards(grid, change))
    pruned = [place for place in grid.networks if place.sparsity > 0]
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


@pytest.mark.parametrize(("kind", "names"), citations._ENTRIES.items())
def test_every_key_has_an_entry(kind, names):
    assert set(filter(None, names.values())) <= set(citations._entries())


def test_a_registered_name_without_an_entry_brings_its_own_summary(tmp_path, monkeypatch):
    monkeypatch.delitem(citations._ENTRIES["criterion"], "lamp")
    text = cited(write(tmp_path / "run", Grid(**SMALL | {"criteria": ("lamp",)})))
    assert "criterion lamp: share of the layer's larger channels (Lee et al. 2021)" in text
