"""Prune networks of libraries as they come, called as their users call them: one line each.

    python benchmarks/whole_networks.py                      # all
    python benchmarks/whole_networks.py bert fasterrcnn      # names that begin like this

Text models take what a tokeniser returns, detectors a list of images. Networks that return features beside
their answer have a second line, with ``logits=`` that answer. Weights are random, configurations small. Needs
transformers and torchvision (requirements-peers.txt); what is missing is skipped. Seconds are CPU time.
"""

import sys
import time
import warnings

import torch
from whole_network_cases import ANSWERS, CASES

import secateur
from secateur import UserError


def row(make, logits=None):
    """Prune one network by half: what came of it, the share of parameters left, and the seconds."""
    torch.manual_seed(0)
    model, inputs = make()
    before = sum(parameter.numel() for parameter in model.parameters())
    start = time.process_time()
    try:
        report = secateur.prune(model, inputs, sparsity=0.5, logits=logits)
    except UserError as error:
        return f"refused: {error}", 1.0, time.process_time() - start
    left = sum(parameter.numel() for parameter in model.parameters()) / before
    seconds = time.process_time() - start
    try:
        _run(model, inputs)
    except Exception as error:
        return f"wrong: fails afterwards: {type(error).__name__}: {error}", left, seconds
    whole = [note for note in report.plan.notes if note.startswith("not pruned")]
    told = f"; {len(whole)} not pruned, first: {whole[0]}" if whole else ""
    return ("proved" if report.verified else "not proved") + told, left, seconds


def _run(model, inputs):
    with torch.no_grad():
        if hasattr(inputs, "keys"):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def main(wanted):
    """Print one line per network."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print(f"{'network':28} {'parameters left':>15} {'seconds':>8}  result", flush=True)
    cases = [(name, make, None) for name, make in CASES.items()]
    cases += [(f"{name} {answer}", CASES[name], answer) for name, answer in ANSWERS.items()]
    for name, make, answer in cases:
        if wanted and not name.startswith(tuple(wanted)):
            continue
        try:
            result, left, seconds = row(make, answer)
        except ImportError as missing:
            result, left, seconds = f"skipped: {missing}", 1.0, 0.0
        except Exception as error:
            result, left, seconds = f"stops: {type(error).__name__}: {error}", 1.0, 0.0
        print(f"{name:28} {left:>15.1%} {seconds:>8.1f}  {result[:300]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
