"""What a pruned network must still do like the dense one: be copied, pickled, saved, exported and trained."""

import copy
import pickle
import tempfile
import time
from pathlib import Path

import torch
from torch.utils._pytree import tree_leaves, tree_map


def call(model, inputs):
    """All tensors a model puts out."""
    outputs = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def same(model, again, inputs):
    """Refuse other outputs than the model's; layouts may differ, and so the order of sums."""
    with torch.no_grad():
        torch.testing.assert_close(call(again, inputs), call(model, inputs), rtol=1e-3, atol=1e-4)


def copied(model, inputs, fresh):
    same(model, copy.deepcopy(model), inputs)


def pickled(model, inputs, fresh):
    same(model, pickle.loads(pickle.dumps(model)), inputs)


def saved(model, inputs, fresh):
    """Written as plan and weights, and rebuilt from the class with other weights."""
    import secateur

    with tempfile.TemporaryDirectory() as folder:
        secateur.save(model, Path(folder) / "network")
        again = secateur.load(Path(folder) / "network", fresh).eval()
    same(model, again, inputs)


def exported(model, inputs, fresh):
    positional, named = ((), inputs) if isinstance(inputs, dict) else ((inputs,), {})
    program = torch.export.export(model, positional, named, strict=False)
    same(model, program.module(), inputs)


def trained(model, inputs, fresh):
    """One step of SGD in training mode on two images; what it leaves is finite."""
    two = tree_map(lambda tensor: torch.cat([tensor, tensor.flip(-1)]), inputs)
    model.train()
    torch.manual_seed(0)
    sum(output.float().square().mean() for output in call(model, two)).backward()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    reached = [parameter for parameter in model.parameters() if parameter.grad is not None]
    if not reached or not all(parameter.isfinite().all() for parameter in reached):
        raise ValueError("gradients are missing or not finite")


CHECKS = (copied, pickled, saved, exported, trained)


def trouble(check, model, inputs, fresh):
    """What went wrong, in a line; empty if nothing did."""
    try:
        check(model, inputs, fresh)
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:300]
    return ""


def afterwards(model, inputs, sparsity):
    """Prune, then try everything; what fails is tried with the dense network too."""
    import secateur

    dense = copy.deepcopy(model)

    def fresh():
        again = copy.deepcopy(dense)
        with torch.no_grad():
            for parameter in again.parameters():
                parameter.zero_()
        return again

    start = time.process_time()
    secateur.prune(model, inputs, sparsity=sparsity, verify=False)
    row = {"status": "as before", "before_too": {}, "only_now": {}}
    for check in CHECKS:
        if words := trouble(check, model, inputs, fresh):
            before = trouble(check, copy.deepcopy(dense), inputs, fresh)
            row["before_too" if before else "only_now"][check.__name__] = before or words
    row["status"] = "otherwise" if row["only_now"] else "as before"
    row["seconds"] = time.process_time() - start
    return row
