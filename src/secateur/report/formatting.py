"""Numbers, intervals and names as text for people."""

import math
import re

from secateur.registry import ATTACKS

PERCENT = "\N{NO-BREAK SPACE}%"
NORM_LABELS = {"l0": "L₀", "l1": "L₁", "l2": "L₂", "linf": "L∞"}


def attack_label(name: str, norm: str) -> str:
    """``ddn`` as "DDN (L₂)"; a name that is not registered stays as it is."""
    labels = (entry.label for entry in ATTACKS.entries() if name in (entry.name, f"{entry.name}-{norm}"))
    return f"{next(labels, name)} ({NORM_LABELS[norm]})"


def arm_label(arm: str) -> str:
    """A fine-tuning arm: "fine-tuned", "fine-tuned: adversarial", "no fine-tuning"."""
    if arm == "none":
        return "no fine-tuning"
    return "fine-tuned" if arm == "standard" else f"fine-tuned: {arm}"


def network_label(criterion: str | None, sparsity: float) -> str:
    """How a network was pruned: "l1 0.4", or "dense"."""
    return f"{criterion} {sparsity:g}" if criterion else "dense"


def number(value: float | None) -> str:
    """Three significant digits; "–" where there is no number and "∞" where it has no bound."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def compact(value: float) -> str:
    """A count with a metric suffix: 78.6k, 11.2M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def plain(value: float | None) -> str:
    """A setting or a count as it is; "–" where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:g}"


def percent(share: float | None) -> str:
    """A share as a percentage: whole, with one decimal below ten; "–" where there is none."""
    if share is None or not math.isfinite(share):
        return number(share)
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f}{PERCENT}"


def percent_range(low: float, high: float, between: str = " to ") -> str:
    """An interval of shares: "41 to 63 %"."""
    return f"{percent(low).removesuffix(PERCENT)}{between}{percent(high)}"


def slug(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "unnamed"


def unique_stem(stem: str, taken: set[str]) -> str:
    """``stem``, made longer until it is not in ``taken``, to which it is then added.

    Names that differ only in punctuation have the same slug.
    """
    while stem in taken:
        stem += "-again"
    taken.add(stem)
    return stem
