"""The Python of the explanations runs and prints what is shown; their pictures are what the library does."""

import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from secateur.attacks import ddn, fmn

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "explanation.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", flags=re.M | re.S)
MOST_WORDS = 1500


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield import_module("explanations")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.slow
def test_the_python_runs_and_prints_what_is_shown(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shown = []
    for code, text in BLOCK.findall(PAGE):
        exec(compile(code, "explanation", "exec"), names)
        printed = capsys.readouterr().out
        assert text in ("", printed)
        shown.append(printed)
    assert len(shown) == 3
    found = re.findall(r"(plain|robust), ε = (0.05|0.1): (\d+)% \[(\d+)%, (\d+)%\], n = 60", shown[1])
    shares = {(name, eps): int(share) for name, eps, share, *_ in found}
    assert len(shares) == 4
    assert all(int(low) <= int(share) <= int(high) for *_, share, low, high in found)
    assert shares["robust", "0.1"] > shares["plain", "0.1"]
    assert {path.name for path in tmp_path.iterdir()} == {"curve-plain.png", "curve-robust.png"}


def test_the_page_is_short():
    prose = re.sub(r"^```.*?^```", "", PAGE, flags=re.M | re.S)
    assert len(prose.split()) <= MOST_WORDS


def test_every_picture_is_drawn_by_the_script_and_has_words():
    pictures = re.findall(r"!\[([^\]]+)\]\((images/explained-[a-z]+\.svg)\)", PAGE)
    files = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").glob("images/explained-*.svg")}
    assert {path for _, path in pictures} == files
    assert all(len(words) > 40 for words, _ in pictures)
    for name in files:
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert len(text) < 100_000
        # A page of the site loads nothing else: no script, no address but those of name spaces.
        assert "<script" not in text
        assert not re.search(r"(?:href|src|url)\W{1,3}https?:", text)


def test_the_picture_of_the_block_is_that_of_its_graph():
    names: dict[str, object] = {}
    exec(compile(BLOCK.findall(PAGE)[0][0], "explanation", "exec"), names)
    picture = (ROOT / "docs" / "images" / "explained-block.svg").read_text(encoding="utf-8")
    assert names["graph"].draw() == picture


def test_the_steps_are_those_of_the_attacks(script):
    """What the page says of DDN and FMN, on the queries that the picture shows."""
    path = script.walk(ddn, 2.0, init_eps=0.2, alpha=0.25)
    assert len(path.queries) == script.STEPS + 1
    assert path.distances[0] == 0
    # On spheres: 5 % more where the last image did not fool, 5 % less where it did.
    steps = path.distances[2:] / path.distances[1:-1]
    assert np.allclose(steps, np.where(path.fools[1:-1], 0.95, 1.05), atol=1e-3)
    for p in (2.0, np.inf):
        found = script.walk(fmn, p, norm=p, alpha=0.25)
        assert found.fools.any()
        # The star is the nearest image that fools.
        best = np.linalg.norm(found.best - np.array(script.START), ord=p)
        assert best == pytest.approx(found.distances[found.fools].min(), rel=1e-5)


def test_the_checks_that_the_page_names_exist():
    known = (ROOT / "docs" / "attacking.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bF\d\d\b", PAGE))
    assert len(named) >= 7
    assert all(f"| {check} |" in known for check in named)
