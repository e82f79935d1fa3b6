"""Gives a synthetic run folder latencies: shares of the dense network's two milliseconds."""

from secateur.report.aggregate import aggregate
from secateur.report.load import load
from secateur.store import (
    Conditions,
    Latencies,
    Measured,
    Spread,
    Store,
    architecture_cell,
    dense_cell,
    write_latencies,
)

CONDITIONS = Conditions(1, 2, "cpu", "A Processor", "2.13.0")
DENSE_SECONDS = 0.002

SMALL = {
    "models": {"plain": False, "robust": True},
    "criteria": ("l1",),
    "sparsities": (0.0, 0.4, 0.6),
    "attacks": {"ddn": 2.0},
    "images": 12,
    "failed": (),
    "grade_c": (),
}


def grid_of(folder):
    return aggregate(load(folder))


def spaced(text):
    """With plain spaces before percent signs."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def quartiles(middle):
    return Spread(0.9 * middle, middle, 1.1 * middle)


def measure(folder, share, *, without=lambda cell: False):
    """Store what a clock would have said of every network that has its own architecture.

    ``share`` of a cell is its latency over the dense network's.
    """
    store = Store.open(folder)
    cells = {cell.id: cell for cell in store.cells}
    own = {
        architecture_cell(cells, cell).id: None
        for cell in store.cells
        if cell.stage != "attack" and not without(cell)
    }
    rows = {}
    for id_ in own:
        cell, dense = cells[id_], dense_cell(cells, cells[id_])
        records = store.record(id_), store.record(dense.id)
        if any(record is None or not record.ok for record in records):
            continue
        rows[id_] = Measured(
            cell=id_,
            weights=records[0].science.weights_hash,
            dense=dense.id,
            dense_weights=records[1].science.weights_hash,
            seconds=quartiles(DENSE_SECONDS * share(cell)),
            dense_seconds=quartiles(DENSE_SECONDS),
            share=quartiles(share(cell)),
            turns=50,
            peak_bytes=round(1_000_000 * share(cell)),
            dense_peak_bytes=1_000_000,
        )
    write_latencies(store.root, Latencies(CONDITIONS, rows))
    return folder


def slowly(cell):
    """Latency falls, but not by as much as multiply-adds do; seeds differ a little."""
    axes = cell.axes
    return (1 - 0.5 * axes["sparsity"]) * (1 + 0.02 * axes["seed"])
