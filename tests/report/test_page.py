import base64
import hashlib
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import jinja2
import numpy as np
import pytest

from report.synthetic import Grid, write
from secateur.report import page as page_module
from secateur.report import report, theme
from secateur.report.aggregate import GridPoint, aggregate, security_curve
from secateur.report.load import load
from secateur.report.paired_changes import changes
from secateur.report.summary import summary
from secateur.report.tiles import robust_tables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>alert('x')</script>"


def first_for_all(svg):
    """Writes the first figure, and gives its drawing to all others."""
    made = []

    def write(figure):
        if not made:
            made.append(svg(figure))
        return made[0]

    return write


@pytest.fixture(scope="module")
def index(run_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # What is looked at here stands around the figures; to write them all costs more than all the rest.
        patch.setattr(theme, "save", lambda *_: ())
        patch.setattr(theme, "svg", first_for_all(theme.svg))
        return report(run_folder, out=tmp_path_factory.mktemp("report")).index


@pytest.fixture(scope="module")
def page(index):
    return index.read_text(encoding="utf-8")


def page_without_figures(folder):
    grid = aggregate(load(folder))
    change = changes(grid)
    return page_module.render(grid, change, [], summary(grid, change), run_folder="run")


def digest(script):
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags(page):
    parser = Tags()
    parser.feed(page)
    return parser.found


def plain_text(page):
    text = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_the_answer_comes_first_and_in_words(page):
    text = plain_text(page).replace("\N{NO-BREAK SPACE}", " ")
    start = text.index("How accurate and how robust are the networks?")
    said = (
        r"robust at sparsity 0\.4 \(fine-tuned\): accuracy goes from \d+ % to \d+ % \(l1\) and \d+ % "
        r"\(random\)\. Robust accuracy at L₂ ≤ 0\.5 \(DDN\) goes from \d+ % to \d+ % \(l1\)"
    )
    assert re.search(said, text[start : start + 1200])
    assert re.search(r"95 % interval \d+ to \d+ %, over images; 100 images, 2 trainings\.", text)
    assert re.search(r"on the \d+ images that both networks classify correctly: \d+ % \(95 % interval", text)


def test_two_seeds_claim_nothing_about_trainings(page):
    assert "no interval over trainings" in plain_text(page)
    assert "±" not in page


def test_budgets_to_choose_from_are_the_stated_ones(grid):
    (block, _) = robust_tables(grid)
    point = grid.points[GridPoint("robust", "l1", 0.4, "standard", "ddn")]
    row = next(row for row in block.rows if (row.model, row.criterion) == ("robust", "l1"))
    tile = row.tiles[block.columns.index("0.4")]
    curve = security_curve(point, np.array([0.25, 0.5, 1.0]))
    assert block.epsilon == ("0.25", "0.5", "1")
    assert tile.curve == tuple(round(100 * share) for share in curve.mean)
    assert block.columns == ("dense, tuned", "dense, not tuned", "0.2", "0.4", "0.6", "0.8")


def test_failed_cells_and_reasons_for_grades_are_on_the_page(page):
    text = plain_text(page)
    assert "Incomplete. 6 of 216 cells have no result" in text
    assert "can lose 80 %" in text
    assert "correct images kept their label" in text


def test_the_page_loads_nothing_and_runs_only_its_own_script(page):
    found = tags(page)
    (policy,) = [a["content"] for _, a in found if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    assert f"script-src 'sha256-{digest(script)}'" in policy
    for tag, attributes in found:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/svg+xml;base64,")), tag


def test_every_picture_has_words_for_who_cannot_see_it(page):
    pictures = [attributes for tag, attributes in tags(page) if tag == "img"]
    assert len(pictures) == 10
    assert all(len(picture["alt"]) > 40 for picture in pictures)


def hostile_page(tmp_path):
    names = {"models": {HOSTILE: False}, "criteria": (HOSTILE,), "attacks": {HOSTILE: 2.0}}
    failed = (("prune", HOSTILE, 0, HOSTILE, 0.5, None, None),)
    settings = {"sparsities": (0.0, 0.5, 0.6), "seeds": (0,), "grade_c": (), "config": {"note": HOSTILE}}
    grid = Grid(name=f"{HOSTILE} & $\\frac{{$", failed=failed, **names, **settings)
    return page_without_figures(write(tmp_path / "run", grid))


def check_that_labels_are_text(page):
    assert [tag for tag, _ in tags(page)].count("script") == 1
    assert "alert('x')" not in page
    assert "&lt;script&gt;alert(" in page


def test_hostile_labels_are_text(tmp_path):
    check_that_labels_are_text(hostile_page(tmp_path))


def test_a_page_without_escaping_is_caught(tmp_path, monkeypatch):
    def careless(**options):
        return jinja2.Environment(**{**options, "autoescape": False})

    monkeypatch.setattr(page_module, "Environment", careless)
    with pytest.raises(AssertionError):
        check_that_labels_are_text(hostile_page(tmp_path))


def test_a_trial_run_says_that_its_numbers_are_partial(tmp_path):
    settings = {"models": {"m": False}, "seeds": (0,), "sparsities": (0, 0.5), "failed": (), "grade_c": ()}
    page = page_without_figures(write(tmp_path / "run", Grid(limited=20, images=20, **settings)))
    assert "Trial run. Only 20 images were attacked" in plain_text(page)


def test_a_study_of_dense_networks_states_their_robust_accuracy_and_no_share(tmp_path):
    settings = {"sparsities": (0,), "criteria": (), "failed": (), "grade_c": (), "seeds": (0,)}
    page = page_without_figures(write(tmp_path / "run", Grid(**settings)))
    assert "No pruned network has been attacked yet" in page
    assert "Robust accuracy at the stated budgets" in page
    assert 'id="left"' not in page


def test_a_lost_control_leaves_shares_unknown_instead_of_inventing_them(tmp_path):
    lost = tuple(("attack", "plain", 0, None, 0.0, "none", attack) for attack in ("ddn", "fmn-linf"))
    settings = {"models": {"plain": False}, "seeds": (0,), "grade_c": ()}
    text = plain_text(page_without_figures(write(tmp_path / "run", Grid(failed=lost, **settings))))
    assert re.search(r"Robust accuracy at L₂ ≤ 0\.5 \(DDN\) is \d+.% \(l1\) and \d+.% \(random\)", text)
    assert "There is no dense network to compare with" in text
    assert "no dense network" in text[text.index("How much of the distance is left?") :]


def test_a_study_without_results_has_a_page_too(tmp_path):
    everything = tuple(("train", m, s, None, 0.0, None, None) for m in ("plain", "robust") for s in (0, 1))
    paths = report(write(tmp_path / "run", Grid(absent=everything, failed=())))
    assert "No pruned network has been attacked yet" in paths.index.read_text()
    assert paths.overview.rows == ()
    assert paths.figures == ()


def complaints(index, tmp_path):
    """What Chromium writes to its console when it opens the page, and the page as it then is."""
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom")
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, index.as_uri()], capture_output=True, text=True, timeout=120, env=environment, check=True
    )
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line], done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_page_opens_in_a_browser_without_complaints(index, tmp_path):
    said, dom = complaints(index, tmp_path)
    assert said == []
    assert "How accurate and how robust are the networks?" in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_script_that_is_not_ours_is_refused_by_the_browser(page, tmp_path):
    changed = tmp_path / "changed.html"
    changed.write_text(page.replace('"use strict";', '"use strict"; document.title = "owned";', 1))
    said, dom = complaints(changed, tmp_path)
    assert any("Content Security Policy" in line for line in said)
    assert "owned</title>" not in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_clicks_sort_the_table_words_filter_it_and_a_slider_sets_the_budget(page, tmp_path):
    clicks = (
        'document.querySelectorAll("#results button")[8].click();'
        'const box = document.getElementById("filter"); box.value = "robust l1";'
        'box.dispatchEvent(new Event("input"));'
        'const slider = document.querySelector(".budgets input"); slider.value = 0;'
        'slider.dispatchEvent(new Event("input"));'
    )
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    tried = page.replace(script, script + clicks)
    old, new = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (script, script + clicks)
    )
    path = tmp_path / "clicked.html"
    path.write_text(tried.replace(old, new))
    said, dom = complaints(path, tmp_path)
    assert said == []
    body = re.search(r'id="results">.*?<tbody>(.*?)</tbody>', dom, flags=re.S)[1]
    rows = re.findall(r"<tr([^>]*)>(.*?)</tr>", body, flags=re.S)
    keys = [re.findall(r'data-key="([^"]*)"', cells)[2] for _, cells in rows]
    numbers = [float(key) for key in keys if key]
    assert numbers == sorted(numbers)
    shown = [cells for attributes, cells in rows if "hidden" not in attributes]
    assert len(shown) == 16
    assert all(">robust<" in cells and ">l1<" in cells for cells in shown)
    shown = re.search(r'class="budgets".*?<output>L₂ ≤ <b>(.*?)</b>.*?<tbody>(.*?)</tbody>', dom, flags=re.S)
    assert shown[1] == "0.25"
    tiles = re.findall(r'data-curve="(\d+) [^>]*><b>(.*?)</b>', shown[2])
    assert len(tiles) == 24
    assert all(text == f"{first} %" for first, text in tiles)
