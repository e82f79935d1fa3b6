"""The page in a browser: no complaint, one control for everything, small screens, the keyboard."""

import os
import re
import shutil
import subprocess
from html import escape

import pytest

from report.surfaces import data_of, digest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def complaints(index, tmp_path):
    """What Chromium writes to its console when it opens the page, and the page as it then is."""
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom")
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, index.as_uri()], capture_output=True, text=True, timeout=120, env=environment, check=True
    )
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line], done.stdout


@pytest.mark.slow
def test_the_page_opens_in_a_browser_without_complaints(index, tmp_path):
    said, dom = complaints(index, tmp_path)
    assert said == []
    assert "How accurate and how robust are the networks?" in dom


@pytest.mark.slow
def test_a_script_that_is_not_ours_is_refused_by_the_browser(page, tmp_path):
    changed = tmp_path / "changed.html"
    changed.write_text(page.replace('"use strict";', '"use strict"; document.title = "owned";', 1))
    said, dom = complaints(changed, tmp_path)
    assert any("Content Security Policy" in line for line in said)
    assert "owned</title>" not in dom


def with_script(page, extra):
    """The page with ``extra`` after its script, and the policy that allows it."""
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    return page.replace(script, script + extra).replace(digest(script), digest(script + extra))


CLICKS = """
document.querySelectorAll("#results thead button")[4].click();
const box = document.getElementById("filter"); box.value = "robust"; box.dispatchEvent(new Event("input"));
const field = document.getElementById("control").elements;
const choose = (name, text) => {
  field[name].value = Array.from(field[name].options).find((each) => each.text === text).value;
  field[name].dispatchEvent(new Event("change", { bubbles: true }));
};
choose("attack", "FMN (L∞)"); choose("budget", "L∞ ≤ 0.01569"); choose("criterion", "l1");
choose("sparsity", "0.4");
choose("axis", "sparsity");
const svg = document.querySelector("#chart-robust > svg");
svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
"""


@pytest.mark.slow
def test_one_control_drives_tiles_tables_and_curves(page, tmp_path):
    path = tmp_path / "clicked.html"
    path.write_text(with_script(page, CLICKS))
    said, dom = complaints(path, tmp_path)
    assert said == []
    dom = dom.replace("&nbsp;", "\N{NO-BREAK SPACE}")
    data = data_of(dom)
    budget = data["attacks"][1]["budgets"].index([pytest.approx(4 / 255), "0.01569"])
    # Tiles: of the chosen attack and criterion alone, at the chosen budget.
    blocks = re.findall(r'<div class="block budgets"([^>]*)>(.*?)</table>', dom, flags=re.S)
    ((_, shown),) = [(a, text) for a, text in blocks if "hidden" not in a]
    assert "<output>L∞ ≤ 0.01569</output>" in shown
    for row in re.findall(r"<tr data-model.*?</tr>", shown, flags=re.S):
        assert ("hidden" in row.partition(">")[0]) == ('data-criterion="random"' in row)
    tiles = re.findall(r'data-at="(\d+)"[^>]*><b>([^<]*)</b>', shown)
    assert len(tiles) >= 20
    for at, number in tiles:
        assert number == data["points"][int(at)]["robust"][budget][3]
    # The table: rows of the choice, with their dense networks; the words of the filter hold as well.
    body = re.search(r'id="results">.*?<tbody>(.*?)</tbody>', dom, flags=re.S)[1]
    rows = re.findall(r"<tr([^>]*)>(.*?)</tr>", body, flags=re.S)
    shown = [(a, cells) for a, cells in rows if "hidden" not in a and "out" not in a]
    points = [data["points"][int(re.search(r'data-at="(\d+)"', a)[1])] for a, _ in shown]
    assert sorted(
        (p["model"], p["criterion"], p["sparsity"]) for p in points if p["criterion"] is not None
    ) == [(1, 0, 0.4)]
    assert len(points) == 3
    for point, (_, cells) in zip(points, shown, strict=True):
        assert "FMN, L∞ ≤ 0.01569" in cells
        assert f">{point['robust'][budget][3]} [" in cells
    # Curves: marks with intervals, and the words of the point that the keyboard reached.
    assert dom.count('class="whisker"') >= 10
    tip = re.search(
        r'<div class="tip" role="status"[^>]*>([^<]*)accuracy ', dom[dom.index('id="chart-robust"') :]
    )[1]
    assert tip.startswith("plain, dense, fine-tuned")
    assert "FMN (L∞), L∞ ≤ 0.01569: all models, fine-tuned, l1, sparsity 0.4" in dom


@pytest.mark.slow
def test_a_small_screen_scrolls_inside_tables_and_not_the_page(page, tmp_path):
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<body><iframe srcdoc="{escape(page)}" width="390" height="900" style="border:0"></iframe><script>'
        'const frame = document.querySelector("iframe"); frame.onload = () => {'
        "const page = frame.contentDocument.documentElement;"
        "document.title = `${page.scrollWidth} of ${page.clientWidth}`; };</script>"
    )
    _, dom = complaints(frame, tmp_path)
    assert "<title>390 of 390</title>" in dom or "<title>375 of 375</title>" in dom


@pytest.mark.slow
def test_keys_reach_every_control(page, tmp_path):
    """Whatever can be clicked is an element that the Tab key stops at."""
    count = (
        "const can = \"a[href], button, select, input, summary, [tabindex='0']\";"
        "const all = Array.from(document.querySelectorAll("
        '".control *, .sortable button, .chart > svg, nav a, .scroll"))'
        '.filter((each) => !["LABEL", "OPTION"].includes(each.tagName));'
        "const lost = all.filter((each) => !each.matches(can) || each.tabIndex < 0);"
        "document.title = `${all.length > 30} ${lost.length}`;"
    )
    path = tmp_path / "keys.html"
    path.write_text(with_script(page, count))
    said, dom = complaints(path, tmp_path)
    assert said == []
    assert "<title>true 0</title>" in dom


CHOICE = """
const fields = document.getElementById("control").elements;
fields.model.value = "1"; fields.model.dispatchEvent(new Event("change", { bubbles: true }));
"""


@pytest.mark.slow
def test_adversarial_pictures_follow_the_control(pictured, tmp_path):
    """One block for the attack and the fine-tuning, and in it the pictures of the chosen model alone."""
    path = tmp_path / "pictured.html"
    path.write_text(with_script(pictured, CHOICE))
    said, dom = complaints(path, tmp_path)
    assert said == []
    section = dom[dom.index('<section id="examples">') :].partition("</section>")[0]
    blocks = re.findall(r'<div class="block"([^>]*)>(.*?)</figure>\s*</div>', section, flags=re.S)
    ((_, shown),) = [(a, text) for a, text in blocks if "hidden" not in a]
    figures = re.findall(r"<figure([^>]*)>", shown)
    assert {"hidden" in each for each in figures if 'data-model="plain"' in each} == {True}
    assert {"hidden" in each for each in figures if 'data-model="robust"' in each} == {False}


@pytest.mark.slow
def test_charts_are_drawn_anew_for_paper(page, tmp_path):
    """Two side by side: shrunk from the width of a screen, their letters would be too small."""
    path = tmp_path / "printed.html"
    for events, expected in ((["beforeprint"], True), (["beforeprint", "afterprint"], False)):
        path.write_text(with_script(page, "".join(f'dispatchEvent(new Event("{name}"));' for name in events)))
        said, dom = complaints(path, tmp_path)
        assert said == []
        chart = dom[dom.index('id="chart-robust"') :].partition("</svg>")[0]
        assert ('viewBox="0 0 336 300"' in chart) is expected


@pytest.mark.slow
def test_printed_pages_are_full(index, tmp_path):
    """Three figures a page: with two, a third of every page was empty."""
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")
    printed = tmp_path / "printed.pdf"
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={printed}"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([*command, index.as_uri()], capture_output=True, timeout=120, env=environment, check=True)
    pages = len(re.findall(rb"/Type /Page\b", printed.read_bytes()))
    figures = index.read_text(encoding="utf-8").count("<figure id=")
    assert figures / 3 < pages <= figures / 3 + 8
