"""Numbers and names as people read them."""

import math
import re

from secateur.registry import ATTACKS

PERCENT = "\N{NO-BREAK SPACE}%"
NORM_LABELS = {"l0": "L₀", "l1": "L₁", "l2": "L₂", "linf": "L∞"}


def attack_label(name: str, norm: str) -> str:
    """``ddn`` as "DDN (L₂)"; names that are not ours stay as they are."""
    label = next(
        (entry.label for entry in ATTACKS.entries() if name in (entry.name, f"{entry.name}-{norm}")), name
    )
    return f"{label} ({NORM_LABELS[norm]})"


def arm_label(arm: str) -> str:
    """A fine-tuning arm in words."""
    if arm == "none":
        return "no fine-tuning"
    return "fine-tuned" if arm == "standard" else f"fine-tuned: {arm}"


def short(value: float) -> str:
    """A count with a metric suffix: 78.6k, 11.2M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def number(value: float | None) -> str:
    """Three significant digits; "–" where there is no number and "∞" where it has no bound."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def slug(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "unnamed"


def unused(stem: str, taken: set[str]) -> str:
    """``stem``, or a longer one where names that differ only in signs made the same; it is then taken."""
    while stem in taken:
        stem += "-again"
    taken.add(stem)
    return stem


def percent(share: float | None) -> str:
    """A share as a whole percentage, with a decimal below ten; "–" where there is none."""
    if share is None or not math.isfinite(share):
        return number(share)
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f}{PERCENT}"


def plain(value: float | None) -> str:
    """A setting or a count as it is."""
    return "–" if value is None or math.isnan(value) else f"{value:g}"
