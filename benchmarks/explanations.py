"""Draw the pictures of docs/explanation.md from what the library does: real iterates, curves and groups.

python benchmarks/explanations.py          # about a minute; writes docs/images/explained-*.svg
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

import secateur
from secateur.attacks import ddn, fmn
from secateur.decision.lines import robust
from secateur.report.axes import percent_axis
from secateur.report.theme import GRID, INK, PALETTE, PAPER, SOFT, WIDTH, svg, themed
from secateur.stats import wilson

ROOT = Path(__file__).parent.parent
PAGE, IMAGES = ROOT / "docs" / "explanation.md", ROOT / "docs" / "images"
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.M | re.S)
START, STEPS = (0.2, 0.3), 24
BLUE, RED = PALETTE[0], PALETTE[1]


def main() -> None:
    for name, text in pictures().items():
        (IMAGES / f"explained-{name}.svg").write_text(text, encoding="utf-8")


def pictures() -> dict[str, str]:
    """The pictures of the page by name, as SVG text."""
    names: dict[str, object] = {}
    exec(compile(BLOCK.findall(PAGE.read_text(encoding="utf-8"))[0], "explanation", "exec"), names)
    graph = names["graph"]
    with themed():
        return {
            "block": graph.draw(),
            "matrices": plain(matrices(graph)),
            "ddn": plain(ddn_steps()),
            "fmn": plain(fmn_steps()),
            "curve": plain(security_curves()),
            "interval": plain(intervals()),
        }


def plain(figure: Figure) -> str:
    """The figure on white, whatever the page around it looks like."""
    text = re.sub(r"<style>@media.*?</style>", "", svg(figure))
    end = text.index(">", text.index("<svg")) + 1
    return f'{text[:end]}<rect width="100%" height="100%" fill="{PAPER}"/>{text[end:]}\n'


def matrices(graph: secateur.graph.DependencyGraph) -> Figure:
    """D and G of the thesis for the block: what depends on what, and what follows."""
    names = [f"{name}{side}" for name in _numbered([layer.name for layer in graph.layers]) for side in "⁻⁺"]
    figure = Figure(figsize=(WIDTH, 3.5))
    pairs = (
        ("D: depends directly", graph.dependency_matrix()),
        ("G: pruned together", graph.grouping_matrix()),
    )
    for axes, (title, matrix) in zip(figure.subplots(1, 2), pairs, strict=True):
        axes.pcolormesh(matrix, cmap=ListedColormap([PAPER, BLUE]), rasterized=True)
        axes.set(xlim=(0, len(names)), ylim=(len(names), 0), aspect="equal", title=title)
        axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90, fontsize=5.5)
        axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=5.5)
        axes.grid(visible=False)
        for line in range(0, len(names) + 1, 2):
            axes.axhline(line, color=GRID, lw=0.5)
            axes.axvline(line, color=GRID, lw=0.5)
    return figure


def _numbered(names: list[str]) -> list[str]:
    """Names that occur more than once get a number."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} {seen[name]}" if names.count(name) > 1 else name)
    return numbered


def boundary(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The logit difference of the toy network: positive on the clean image's side."""
    return 0.6 + 0.16 * torch.sin(7 * x) - 0.3 * x - y


class Toy(torch.nn.Module):
    """Two pixels, two classes, a curved boundary; remembers every image it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked.append(x.detach().clone())
        side = boundary(x[:, 0], x[:, 1])
        return torch.stack([6 * side, -6 * side], 1)


@dataclass(frozen=True)
class Path2D:
    """Every query of an attack on the toy network, [K + 1, 2], whether it fools, and its distance."""

    queries: np.ndarray
    fools: np.ndarray
    distances: np.ndarray
    best: np.ndarray


def walk(attack: Callable[..., object], p: float, **settings: object) -> Path2D:
    """Run an attack of the library on the toy network."""
    model, x, y = Toy(), torch.tensor([START]), torch.tensor([0])
    found = attack(model, x, y, steps=STEPS, **settings)
    queries = torch.cat(model.asked)
    fools = boundary(queries[:, 0], queries[:, 1]) < 0
    distances = torch.linalg.vector_norm(queries - x, ord=p, dim=1)
    assert abs(found.distance.item() - distances[fools].min().item()) < 1e-6
    return Path2D(queries.numpy(), fools.numpy(), distances.numpy(), found.adv[0].numpy())


def ddn_steps() -> Figure:
    """The iterates of DDN on their spheres, and their distances."""
    path = walk(ddn, 2.0, init_eps=0.2, alpha=0.25)
    figure = Figure(figsize=(WIDTH, 3.1))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1))
    _plane(left, path, "DDN: steps on spheres")
    for k in (1, 4, STEPS):
        left.add_patch(Circle(START, path.distances[k], fill=False, color=SOFT, lw=0.6, ls=":"))
    _distances(right, path, "L₂ distance of the iterate")
    return figure


def fmn_steps() -> Figure:
    """The iterates of FMN in two norms, and the distances of the second."""
    figure = Figure(figsize=(WIDTH, 2.6))
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 1))
    for axes, (p, name) in zip(panels, ((2.0, "L₂"), (np.inf, "L∞")), strict=False):
        path = walk(fmn, p, norm=p, alpha=0.25)
        _plane(axes, path, f"FMN, {name}: steps in balls")
        size = path.distances[path.fools].min()
        shape = Circle(START, size) if p == 2 else Rectangle(np.array(START) - size, 2 * size, 2 * size)
        shape.set(fill=False, color=SOFT, lw=0.8, ls=":")
        axes.add_patch(shape)
    _distances(panels[2], path, "L∞ distance of the iterate")
    return figure


def _plane(axes: Axes, path: Path2D, title: str) -> None:
    """The square of images, the boundary, and the way of the attack; filled signs fool."""
    grid = torch.linspace(0, 1, 60)
    x, y = torch.meshgrid(grid, grid, indexing="xy")
    axes.contourf(x, y, boundary(x, y), levels=[-9, 0, 9], colors=["#fbe3d6", "#dfeaf5"])
    axes.plot(*path.queries.T, color=INK, lw=0.6, zorder=2)
    colours = np.where(path.fools, RED, PAPER)
    axes.scatter(*path.queries.T, s=14, c=colours, edgecolors=INK, linewidths=0.6, zorder=3)
    axes.scatter(*START, s=40, marker="s", color=BLUE, zorder=4)
    axes.scatter(*path.best, s=70, marker="*", color=RED, edgecolors=INK, linewidths=0.5, zorder=5)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="pixel 1", ylabel="pixel 2", title=title)
    axes.grid(visible=False)


def _distances(axes: Axes, path: Path2D, label: str) -> None:
    steps = np.arange(len(path.distances))
    axes.plot(steps, path.distances, color=INK, lw=0.6)
    colours = np.where(path.fools, RED, PAPER)
    axes.scatter(steps, path.distances, s=14, c=colours, edgecolors=INK, linewidths=0.6, zorder=3)
    fooling = np.where(path.fools, path.distances, np.inf)
    axes.step(steps, np.minimum.accumulate(fooling), where="post", color=RED, lw=1, label="best so far")
    axes.scatter([], [], s=14, c=RED, edgecolors=INK, linewidths=0.6, label="fools")
    axes.scatter([], [], s=14, c=PAPER, edgecolors=INK, linewidths=0.6, label="does not")
    axes.set(xlabel="step k", ylabel=label, ylim=(0, None), box_aspect=1)
    axes.legend()


class Stuck(torch.nn.Module):
    """A network after too much pruning: the same class for every image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.eye(10)[3] + 1e-3 * x.flatten(1)[:, :10]


def security_curves() -> Figure:
    """Two shipped networks and a collapsed one, by FMN, on 200 test images."""
    images = secateur.data.load("digits:split").take(range(200))
    networks = {
        "plain": (secateur.models.resolve("shipped:digits-plain"), BLUE, "-"),
        "robust": (secateur.models.resolve("shipped:digits-robust"), RED, "-"),
        "collapsed": (Stuck().eval(), SOFT, ":"),
    }
    budget, eps = 0.1, np.linspace(0, 0.35, 141)
    figure = Figure(figsize=(0.8 * WIDTH, 2.9))
    axes = figure.subplots()
    for name, (network, colour, dash) in networks.items():
        record = secateur.attack(network, images, "fmn", norm="linf", steps=100).to_json()
        share = np.array([robust(record, each).mean() for each in eps])
        band = np.array([wilson(round(each * images.n), images.n) for each in share])
        axes.plot(eps, share, color=colour, ls=dash, lw=1.5, label=name)
        axes.fill_between(eps, band[:, 0], band[:, 1], color=colour, alpha=0.15, lw=0)
        at = float(robust(record, budget).mean())
        axes.plot(budget, at, "o", ms=4, color=colour)
        axes.annotate(f"{at:.0%}", (budget, at), (5, 4), textcoords="offset points", color=colour)
    axes.axvline(budget, color=SOFT, lw=0.8, ls="--")
    axes.set(xlim=(0, eps[-1]), ylim=(-0.02, 1.05), ylabel="robust accuracy")
    axes.set_xlabel("perturbation budget ε (L∞); dashed: the budget of a statement")
    percent_axis(axes.yaxis)
    axes.legend()
    return figure


def intervals() -> Figure:
    """How wide the 95 % Wilson interval of a share is, by the number of images."""
    numbers = np.unique(np.geomspace(10, 10_000, 60).round().astype(int))
    figure = Figure(figsize=(0.6 * WIDTH, 2.3))
    axes = figure.subplots()
    for share, colour, dash in ((0.5, BLUE, "-"), (0.1, RED, "--")):
        widths = [100 * np.ptp(wilson(share * n, n)) / 2 for n in numbers]
        axes.plot(numbers, widths, color=colour, ls=dash, lw=1.4, label=f"robust accuracy {share:.0%}")
    axes.set(xscale="log", xlabel="attacked images", ylabel="± points", ylim=(0, None))
    axes.set_xticks([10, 30, 100, 300, 1000, 10_000], ["10", "30", "100", "300", "1,000", "10,000"])
    axes.minorticks_off()
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
