"""Equal networks under several seeds are attacked once."""

import pytest

from secateur import evaluate
from secateur.cli.folder import facts
from secateur.stages import attack_stage
from whole import run_here

GIVEN = """
name: given
data: {spec: "digits:split", sizes: [100, 20, 100]}
models: {net: "shipped:digits-plain"}
criteria: [l1, random]
sparsities: [0, 0.5]
attacks: {ddn: {steps: 2}}
seeds: [0, 1]
images: 40
"""


@pytest.fixture
def attacked(monkeypatch):
    """The seeds of every call of ``evaluate.attack``."""
    seeds, real = [], evaluate.attack

    def attack(*args, seed, **settings):
        seeds.append(seed)
        return real(*args, seed=seed, **settings)

    monkeypatch.setattr(evaluate, "attack", attack)
    return seeds


def attacks_of(store):
    cells = {cell.id: cell for cell in store.cells if cell.stage == "attack"}
    return {
        (cell.axes["criterion"], cell.axes["seed"]): store.record(cell_id) for cell_id, cell in cells.items()
    }


@pytest.mark.slow
def test_a_repeated_attack_takes_the_numbers_of_the_first_and_says_so(tmp_path, attacked):
    store, records = run_here(GIVEN, tmp_path)
    assert {record["status"] for record in records} == {"ok"}
    found = attacks_of(store)
    assert len(attacked) == 4
    for criterion in (None, "l1"):
        first, second = found[criterion, 0], found[criterion, 1]
        assert second.id != first.id
        assert second.provenance["same_as"] == first.id
        assert second.science.to_json() == first.science.to_json()
        assert second.artefacts == first.artefacts != {}
        assert "same_as" not in first.provenance
        cell = next(cell for cell in store.cells if cell.id == second.id)
        label = next(cell.label for cell in store.cells if cell.id == first.id)
        assert ("numbers of", label) in facts(store, cell, second)
    first, second = found["random", 0], found["random", 1]
    assert "same_as" not in second.provenance
    assert first.science.seed != second.science.seed


@pytest.mark.slow
def test_a_repetition_would_have_found_the_same_and_differ_in_the_draws_of_its_checks(
    tmp_path, attacked, monkeypatch
):
    taken = attacks_of(run_here(GIVEN, tmp_path / "taken")[0])
    monkeypatch.setattr(attack_stage, "repeats", lambda cells: {})
    computed = attacks_of(run_here(GIVEN, tmp_path / "computed")[0])
    assert len(attacked) == 4 + 6
    for where, record in computed.items():
        numbers, others = record.science.to_json(), taken[where].science.to_json()
        if where[1] and where[0] != "random":
            assert numbers.pop("seed") != others.pop("seed")
            for drawn in ("checks", "grade", "summary"):
                del numbers[drawn], others[drawn]
        assert numbers == others


@pytest.mark.slow
def test_other_weights_or_a_network_that_draws_are_attacked(tmp_path, attacked, monkeypatch):
    """The plan says which attacks may repeat another; the records decide."""
    monkeypatch.setattr(attack_stage, "repeats", _wrong)
    store, _ = run_here(GIVEN, tmp_path)
    assert len(attacked) == 6
    assert not [record for record in store.records() if "same_as" in record.provenance]


def _wrong(cells):
    """Every attack on a pruned network is said to repeat that on the dense one, and the other way round."""
    chosen = [cell for cell in cells if cell.stage == "attack"]
    dense = [cell for cell in chosen if not cell.axes["criterion"]]
    pruned = [cell for cell in chosen if cell.axes["criterion"]]
    return {cell.id: dense[0].id for cell in pruned} | {cell.id: pruned[0].id for cell in dense}
