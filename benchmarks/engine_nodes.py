"""Two Ray nodes against one, on this machine: the same cells of one core each. Needs ``secateur[ray]``.

A node has one core of Ray's, so two nodes need a machine of two cores; the driver, the head and the node
managers take their share of these. The head starts, and one cell runs on every node, before the clock does.
"""

import os
import sys
import time
from pathlib import Path

from secateur.config import load_study
from secateur.engine.ray import RayEngine
from secateur.store import Store
from secateur.study import plan, run_plan

STORE_BYTES = 80 * 2**20


def seconds(laid, folder, address):
    """Wall seconds of a run from its first cell to its last record, and the number of cells."""
    store = Store.create(folder, laid.to_json())
    engine = RayEngine(store.root, execute="engine_stages:busy", address=address, trusted=True, prepare=None)
    begun = time.perf_counter()
    result = run_plan(laid, store.root, engine=engine)
    took = time.perf_counter() - begun
    if result.ok != len(store.cells):
        raise SystemExit(f"{len(store.cells) - result.ok} cells failed: {result.failed}")
    return took, result.ok


def main(study, folder, nodes):
    """Print the cells and the seconds with so many nodes."""
    import ray
    from ray.cluster_utils import Cluster

    laid = plan(load_study(study))
    warm = plan(load_study(study, overrides=["seeds=[0]", "sparsities=[0, 0.5]", "criteria=[l1]"]))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        seconds(warm, Path(folder) / f"warm{nodes}", cluster.address)
        took, cells = seconds(laid, Path(folder) / f"run{nodes}", cluster.address)
        print(cells, took)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
