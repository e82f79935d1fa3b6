"""Adversarial pictures on the page of a study: which images, what they show, and how many."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from report import pictures
from report.pictures import CLASSES, SETTINGS, N, labelled, page_of, shown
from report.surfaces import plain_text, tags
from report.synthetic import Grid, write
from secateur.report import examples as module
from secateur.report import report
from secateur.report.aggregate import GridPoint
from secateur.report.examples import MOST, typical_places
from secateur.store import EXAMPLES, evenly


def decoded(uri):
    assert uri.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.slow
def test_images_are_those_nearest_to_the_median_of_the_dense_network(pictured_folder):
    grid, blocks, left_out = shown(pictured_folder)
    assert left_out == 0
    assert [(block.attack, block.arm) for block in blocks] == [("ddn", "standard"), ("ddn", "none")]
    (block, _) = blocks
    attacks = [
        grid.points[GridPoint("robust", "l1" if s else "", s, "standard", "ddn")].attacks[0]
        for s in (0.0, 0.2, 0.6, 0.8)
    ]
    common = np.logical_and.reduce([attack.found for attack in attacks])
    distances = attacks[0].distances["l2"]
    middle = np.median(distances[common])
    candidates = [place for place in evenly(N) if common[place]]
    expected = sorted(candidates, key=lambda place: abs(distances[place] - middle))[:MOST]
    mine = [card for card in block.cards if card.model == "robust"]
    assert [card.title for card in mine] == [f"robust, image {place + 1} of {N}" for place in expected]
    assert mine[0].names == ("dense", "l1 0.2", "l1 0.6", "l1 0.8")
    for card, place in zip(mine, expected, strict=True):
        assert (decoded(card.clean.uri) == place).all()
        assert card.clean.lines == (CLASSES[place % 10],)
        for shot, attack in zip(card.adversarial, attacks, strict=True):
            assert shot.lines[0] == f"→ {CLASSES[(place + 1) % 10]}"
            assert float(shot.lines[1].removeprefix("L₂ ")) == pytest.approx(
                attack.distances["l2"][place], rel=5e-3
            )


def test_changes_are_magnified_by_one_factor_per_image(pictured_folder):
    _, (block, _), _ = shown(pictured_folder)
    card = next(card for card in block.cards if card.model == "robust")
    corners = [int(decoded(shot.uri)[0, 0]) for shot in card.added]
    assert all((decoded(shot.uri)[1:, 1:] == 128).all() for shot in card.added)
    # The largest change, 0.18 at sparsity 0.8, is white; the dense network's 0.1 is in proportion.
    assert corners[-1] == 255
    assert corners[0] == pytest.approx(255 * (0.5 + 0.5 * 0.1 / 0.18), abs=1)
    assert float(card.factor.removeprefix("×")) == pytest.approx(1 / 0.18, rel=2e-3)


def test_an_unreliable_network_is_not_shown(pictured_folder):
    grid, (block, _), _ = shown(pictured_folder)
    assert grid.points[GridPoint("plain", "l1", 0.6, "standard", "ddn")].checked == "C"
    card = next(card for card in block.cards if card.model == "plain")
    assert "l1 0.6" not in card.names


@pytest.mark.slow
def test_the_page_shows_them_with_words_and_the_rule(pictured_folder):
    page = page_of(pictured_folder)
    text = plain_text(page)
    assert "What do the adversarial images look like?" in text
    assert module.RULE in text
    assert "chosen before any attack" in text
    assert '<a href="#examples">' in page
    pictures = [a for tag, a in tags(page) if tag == "img"]
    assert len(pictures) >= 2 * 2 * (1 + 2 * 3)
    assert all(len(picture["alt"]) > 18 for picture in pictures)
    assert {picture["src"].partition(",")[0] for picture in pictures} == {"data:image/png;base64"}
    assert "alert('x')" not in page


@pytest.mark.slow
def test_a_study_without_pictures_has_no_section(tmp_path):
    page = page_of(write(tmp_path / "run", Grid(**SETTINGS)))
    assert "#examples" not in page
    assert "adversarial images look like" not in page


@pytest.mark.slow
def test_files_that_were_damaged_or_left_out_are_no_pictures(tmp_path):
    folder = pictures.write(tmp_path / "run")
    for number, path in enumerate(sorted(folder.rglob(EXAMPLES))):
        if number % 2:
            path.unlink()
        else:
            path.write_bytes(b"x" + path.read_bytes())
    assert shown(folder)[1:] == ([], 0)


@pytest.mark.slow
def test_a_large_study_shows_fewer_images_and_says_so(pictured_folder, monkeypatch):
    _, blocks, _ = shown(pictured_folder)
    whole = [card for block in blocks for card in block.cards]
    first = {(block.arm, card.model): card.size for block in blocks for card in reversed(block.cards)}
    assert len(whole) > len(first) == 4
    monkeypatch.setattr(module, "BYTES", sum(first.values()))
    assert [card.size for block in shown(pictured_folder)[1] for card in block.cards] == [
        next(card.size for card in block.cards if card.model == model)
        for block in blocks
        for model in ("plain", "robust")
    ]
    room = sum(first.values()) - 1
    monkeypatch.setattr(module, "BYTES", room)
    _, blocks, left_out = shown(pictured_folder)
    assert left_out == 1
    assert sum(card.size for block in blocks for card in block.cards) <= room
    assert f"no room for the pictures of {left_out} further model" in plain_text(page_of(pictured_folder))


def test_fixed_sizes_have_no_typical_distance():
    found = np.array([[True, True, False, True]])
    assert typical_places(found, None, [3, 1, 0, 2]) == [0, 1, 3]
    assert typical_places(found, np.array([5.0, 1.0, 0.0, 2.0]), [3, 1, 0, 2]) == [3, 1, 0]


@pytest.mark.slow
def test_a_model_without_a_common_image_is_named(tmp_path):
    def nothing(cell, science):
        labelled(cell, science)
        if cell["stage"] == "attack" and cell["axes"]["model"] == "plain":
            for place in evenly(N):
                science["outcome"][place] = "already_wrong"
        return science

    _, blocks, _ = shown(pictures.write(tmp_path / "run", edit=nothing, grade_c=()))
    assert {block.without for block in blocks} == {("plain",)}
    assert {card.model for block in blocks for card in block.cards} == {"robust"}
    text = plain_text(page_of(tmp_path / "run"))
    assert re.search(r"None of the kept images has an example on every network: plain\.", text)


@pytest.mark.slow
def test_a_page_without_pictures_holds_no_image_of_the_data(pictured_folder, tmp_path, undrawn):
    with_them, without = (
        report(pictured_folder, out=tmp_path / str(pictures), pictures=pictures).index.read_text()
        for pictures in (True, False)
    )
    assert "data:image/png" in with_them
    assert "data:image/png" not in without
    assert "#examples" not in without
