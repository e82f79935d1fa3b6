import base64
import csv
import io
import re
from urllib.parse import unquote
from xml.etree import ElementTree

import jinja2
import numpy as np
import pytest

from report.surfaces import data_of, digest, plain_text, tags
from report.synthetic import Grid, write
from secateur.report import page as page_module
from secateur.report import report
from secateur.report.aggregate import GridPoint, aggregate, security_curve
from secateur.report.formatting import percent
from secateur.report.load import load
from secateur.report.paired_changes import changes
from secateur.report.paper import paper_tables
from secateur.report.summary import attacked_points, summary
from secateur.report.tiles import robust_tables

HOSTILE = "<script>alert('x')</script>"


def page_without_figures(folder):
    grid = aggregate(load(folder))
    change = changes(grid)
    return page_module.render(grid, change, [], summary(grid, change), run_folder="run")


@pytest.mark.slow
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


def test_budgets_to_choose_from_are_the_stated_ones(grid, page):
    data = data_of(page)
    (where,) = [
        i
        for i, p in enumerate(attacked_points(grid))
        if p == GridPoint("robust", "l1", 0.4, "standard", "ddn")
    ]
    curve = security_curve(grid.points[attacked_points(grid)[where]], np.array([0.25, 0.5, 1.0]))
    attack = next(each for each in data["attacks"] if each["name"] == "ddn")
    assert attack["budgets"] == [[0.25, "0.25"], [0.5, "0.5"], [1.0, "1"]]
    shares = data["points"][where]["robust"]
    assert [share[0] for share in shares] == pytest.approx(list(curve.mean), abs=1e-4)
    assert [share[3] for share in shares] == [percent(mean) for mean in curve.mean]
    (block, _) = robust_tables(grid)
    assert block.columns == ("dense, tuned", "dense, not tuned", "0.2", "0.4", "0.6", "0.8")
    assert block.images == "100 images, 2 trainings"


def test_tables_tiles_and_control_have_one_source(grid, page):
    """What a tile and a row say first is what the data of the control says of the same network."""
    data = data_of(page)
    starts = {attack["name"]: attack["start"] for attack in data["attacks"]}
    section = page[page.index('id="budgets"') : page.index('id="left"')]
    rows = dict(
        re.findall(
            r'<tr class="grade-." data-at="(\d+)">.*?class="number robust" data-key="[^"]*">([^<]*)<', page
        )
    )
    tiles = re.findall(r'data-at="(\d+)"[^>]*><b>([^<]*)</b><small class="interval">([^<]*)<', section)
    assert len(tiles) > 40
    for at, number, interval in tiles:
        point = data["points"][int(at)]
        share = point["robust"][starts[point["attack"]]]
        assert (number, interval) == (share[3], share[4])
        low_high = interval.replace(" to ", ", ").replace("\N{NO-BREAK SPACE}%", "")
        assert rows[at] == f"{number} [{low_high}], {point['images']}"


def test_the_contents_lead_to_every_section(page):
    found = tags(page)
    ids = {attributes["id"] for _, attributes in found if "id" in attributes}
    sections = [attributes["id"] for tag, attributes in found if tag == "section"]
    nav = page[page.index("<nav") : page.index("</nav>")]
    links = re.findall(r'href="#([^"]+)"', nav)
    assert links == sections
    assert set(links) <= ids
    assert sections[0] == "answer"
    assert (
        page.index('id="answer"')
        < page.index('id="control"')
        < page.index('id="budgets"')
        < page.index('id="table"')
    )
    assert len(ids) == len([attributes for _, attributes in found if "id" in attributes])


def test_tables_have_eight_columns_and_the_rest_on_demand(page):
    for table in ("results", "compared"):
        head = re.search(rf'id="{table}">\s*<thead>(.*?)</thead>', page, flags=re.S)[1]
        heads = re.findall(r"<th([^>]*)>", head)
        assert len([each for each in heads if "more" not in each]) == 8
        for row in re.search(rf'id="{table}">.*?<tbody>(.*?)</tbody>', page, flags=re.S)[1].split("</tr>")[
            :-1
        ]:
            cells = re.findall(r"<td([^>]*)>", row)
            assert len(cells) == len(heads)
            assert len([each for each in cells if "more" not in each]) == 8
    assert "#wide:checked ~ .narrow .more" in page


def test_files_are_downloaded_from_the_page_itself(page, grid, change):
    links = [a for tag, a in tags(page) if tag == "a" and "download" in a]
    assert [a["download"] for a in links] == [
        "results.csv",
        "paper-ddn-standard.tex",
        "paper-fmn-linf-standard.tex",
    ]
    texts = [base64.b64decode(a["href"].partition("base64,")[2]).decode() for a in links]
    rows = list(csv.DictReader(io.StringIO(texts[0])))
    assert len(rows) == len(attacked_points(grid))
    assert texts[1:] == [text for _, text in paper_tables(grid, change)]


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
        assert attributes.get("src", "data:image/svg+xml,").startswith("data:image/svg+xml,")
        # A file to download is in the page, too.
        kinds = ("data:text/csv;", "data:text/x-tex;") if "download" in attributes else ("#",)
        assert attributes.get("href", kinds[0]).startswith(kinds), tag
    assert not re.search(r"url\(|@import", page[page.index("<style>") : page.index("</style>")])
    assert not re.search(r"fetch|XMLHttp|import\(|WebSocket|innerHTML|eval", script)


def test_every_picture_has_words_for_who_cannot_see_it(page):
    pictures = [attributes for tag, attributes in tags(page) if tag == "img"]
    assert len(pictures) == 20
    assert all(len(picture["alt"]) > 40 for picture in pictures)


def hostile_page(tmp_path):
    names = {"models": {HOSTILE: False}, "criteria": (HOSTILE,), "attacks": {HOSTILE: 2.0}}
    failed = (("prune", HOSTILE, 0, HOSTILE, 0.5, None, None),)
    settings = {"sparsities": (0.0, 0.5, 0.6), "seeds": (0,), "grade_c": (), "config": {"note": HOSTILE}}
    grid = Grid(name=f"{HOSTILE} & $\\frac{{$", failed=failed, **names, **settings)
    return page_without_figures(write(tmp_path / "run", grid))


def check_that_labels_are_text(page):
    scripts = [attributes for tag, attributes in tags(page) if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
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
    assert 'id="criteria"' not in page


@pytest.mark.slow
def test_a_lost_control_leaves_shares_unknown_instead_of_inventing_them(tmp_path):
    lost = tuple(("attack", "plain", 0, None, 0.0, "none", attack) for attack in ("ddn", "fmn-linf"))
    settings = {"models": {"plain": False}, "seeds": (0,), "grade_c": ()}
    text = plain_text(page_without_figures(write(tmp_path / "run", Grid(failed=lost, **settings))))
    assert re.search(r"Robust accuracy at L₂ ≤ 0\.5 \(DDN\) is \d+.% \(l1\) and \d+.% \(random\)", text)
    assert "There is no dense network to compare with" in text
    assert "no dense network" in text[text.index("How much of the distance is left?") :]


def test_a_study_without_results_has_a_page_too(tmp_path):
    everything = tuple(("train", m, s, None, 0.0, None, None) for m in ("plain", "robust") for s in (0, 1))
    paths = report(write(tmp_path / "run", Grid(absent=everything, failed=())), figures=("pdf",))
    assert "No pruned network has been attacked yet" in paths.index.read_text()
    assert paths.overview.rows == ()
    assert paths.figures == ()


def test_a_picture_is_the_same_drawing_in_its_address(page):
    """Quotes are others, and nothing in it ends the attribute or is escaped by the page."""
    svg = """<svg style="fill:#fff" title="it's &amp; 50 %">ä<a href="#b"/></svg>"""
    uri = str(page_module.Picture("a", "", "", "", svg, 1, 1).uri)
    assert not set(uri) & set('"<>&#')
    data, _, address = uri.partition(",")
    assert data == "data:image/svg+xml"
    first, second = (ElementTree.fromstring(text) for text in (svg, unquote(address)))
    assert ElementTree.tostring(first) == ElementTree.tostring(second)
    sources = re.findall(r'<img src="(data:image/svg[^"]*)"', page)
    assert sources
    for source in sources:
        assert ElementTree.fromstring(unquote(source.partition(",")[2])).tag.endswith("svg")
