"""Numbers of the right shape for cells that compute nothing."""

from secateur.store import AttackScience, PruneScience, Record, TrainScience, TuneScience

KINDS = {"train": TrainScience, "prune": PruneScience, "tune": TuneScience, "attack": AttackScience}
NETWORK = {
    "parameters": 12,
    "macs": 30,
    "accuracy": {"test": 0.5},
    "collapsed": False,
    "weights_hash": "ab",
}
PRUNED = {
    "parameters_dense": 20,
    "macs_dense": 60,
    "sparsity_requested": 0.5,
    "sparsity_achieved": 0.5,
    "groups": 1,
    "proof": {"max_error": 0.0},
}
ATTACKED = {
    "hashes": ["a", "b", "c"],
    "outcome": ["found", "already_wrong", "not_found"],
    "distances": {norm: [1.0, 0.0, None] for norm in ("l0", "l1", "l2", "linf")},
    "norm": "l2",
    "grade": "A",
    "checks": [{"id": "F09", "passed": True, "severity": "warn", "sentence": "all is well"}],
    "targeted": False,
    "accuracy": 0.5,
    "ori_success": [False, True, False],
    "adv_success": [True, True, False],
    "ASR": 0.5,
    "num_forwards": [10, 0, 10],
    "num_backwards": [9, 0, 9],
}
PLAIN = {"train": NETWORK, "tune": NETWORK, "prune": NETWORK | PRUNED, "attack": ATTACKED}


def numbers_of(stage, **extra):
    """The numbers of a stage; ``extra`` replaces some, or adds what no stage measures."""
    return KINDS[stage].from_json({**PLAIN[stage], **extra})


def record_of(cell, **changes):
    """A record of the cell; ``changes`` replace some of its fields."""
    fields = {"status": "ok", "error": None, "timing": {"seconds": 1.0}, "provenance": {}}
    return Record.of(cell, **fields | {"science": numbers_of(cell.stage)} | changes)
