"""Contrast of the page and the figures, from their colours: 4.5 to 1 for text, 3 to 1 for graphics."""

import re
from importlib.resources import files

import pytest

from secateur.report.theme import INK, ON_DARK, PALETTE, PAPER, SOFT, shades

CSS = files("secateur.report").joinpath("templates", "report.css").read_text(encoding="utf-8")
TEXT, GRAPHIC = 4.5, 3.0
STRONGEST_TILE = 0.42


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(top, below, share):
    """``top`` over ``below`` with an opacity of ``share``."""
    pairs = [(int(top[i : i + 2], 16), int(below[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


def themes(css):
    """The colours of the light page and of the dark one."""
    light, dark = re.findall(r":root \{([^}]*)\}", css)[:2]
    read = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", text)) for text in (light, dark)]
    assert read[0].keys() == read[1].keys()
    return {"light": read[0], "dark": read[1]}


def too_weak(css):
    """Every pair of colours that the page uses and that is below its limit."""
    found = []
    for theme, colour in themes(css).items():
        backgrounds = {name: colour[name] for name in ("paper", "panel")}
        backgrounds["tile"] = mixed(colour["good"], colour["paper"], STRONGEST_TILE)
        texts = {name: colour[name] for name in ("ink", "soft", "accent", "warn", "bad", "x")}
        for where, background in backgrounds.items():
            used = texts if where != "tile" else {"ink": colour["ink"]}
            used |= {"small print": mixed(colour["ink"], background, 0.86)}
            found += [(theme, n, where) for n, c in used.items() if contrast(c, background) < TEXT]
        graphics = ("edge", "accent", "good", *(f"s{i}" for i in range(10)))
        for where in ("paper", "panel"):
            found += [(theme, n, where) for n in graphics if contrast(colour[n], colour[where]) < GRAPHIC]
    return found


def test_text_and_graphics_stand_out_in_both_themes():
    assert too_weak(CSS) == []
    assert f"* {100 * STRONGEST_TILE:.0f}%)" in CSS
    assert ".tile small { color: var(--ink); opacity: .86; }" in CSS


@pytest.mark.parametrize("pale", ["--soft: #9ba5af", "--s4: #c9c4f0", "--edge: #d1d9e0"])
def test_a_pale_colour_is_caught(pale):
    name = pale.partition(":")[0]
    assert too_weak(re.sub(rf"{name}: #[0-9a-f]{{6}}", pale, CSS, count=1)) != []


def test_lines_of_figures_stand_out_from_a_light_page_and_from_a_dark_one():
    for colour in (*PALETTE, *(shade for n in range(1, 13) for shade in shades(n))):
        assert contrast(colour, PAPER) >= GRAPHIC, colour
        assert contrast(ON_DARK[colour], ON_DARK[PAPER]) >= GRAPHIC, colour
    for colour in (INK, SOFT):
        assert contrast(colour, PAPER) >= TEXT
        assert contrast(ON_DARK[colour], ON_DARK[PAPER]) >= TEXT


def test_the_page_has_the_colours_of_the_figures():
    colours = themes(CSS)
    assert tuple(colours["light"][f"s{i}"] for i in range(10)) == PALETTE
    assert tuple(colours["dark"][f"s{i}"] for i in range(10)) == tuple(ON_DARK[colour] for colour in PALETTE)


def test_printing_hides_controls_and_keeps_headings_with_what_follows():
    printed = CSS[CSS.index("@media print") :]
    hidden = printed[: printed.index("{ display: none")]
    for part in (".control", ".filter", ".download", "nav", "input"):
        assert part in hidden
    assert re.search(r"h2, h3[^{]*\{ break-after: avoid", printed)
    assert re.search(r"figure[^{]*tr[^{]*\.block[^{]*\{ break-inside: avoid", printed)
    assert re.search(r"h2 \+ \.note, h3 \+ p \{ break-after: avoid", printed), (
        "a note alone at the foot of a page"
    )
    assert "prefers-color-scheme: dark" in CSS
    assert "@media screen and (prefers-color-scheme: dark)" in CSS


def test_what_stays_whole_on_paper_is_never_half_a_page_high():
    """What does not fit goes to the next page, and leaves as much of this one empty as it is high."""
    printed = CSS[CSS.index("@media print") :]
    whole = next(part for part in printed.split("}") if "break-inside: avoid" in part)
    assert ".block:not(:has(.shots, tr:nth-child(6)))" in whole, "a long table breaks between its rows"
    for picture in ("figure img", r"\.chart > svg"):
        height = re.search(rf"{picture} \{{[^}}]*max-height: ([\d.]+)rem", printed)
        # Letter has 10.2 inches between its margins; a title and a caption are beside it.
        assert float(height[1]) * 16 / 96 < 10.2 / 2
    assert re.search(r"figure:has\(> h3\) \{[^}]*grid-template-columns: \S+ 1fr", printed), "captions beside"
