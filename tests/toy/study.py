import json
from dataclasses import replace
from pathlib import Path

from secateur.config import parse_study
from secateur.study import Facts, plan, run_plan

FACTS = Facts(fingerprint="f" * 64, train=100, validation=20, test=50, shape=(1, 8, 8), classes=10)
SMALL = """
name: toy
data: digits
models: {plain: resnet-tiny}
sparsities: [0, 0.5]
finetune: {standard: {epochs: 2}}
attacks: {ddn: {steps: 10}}
images: 20
"""
EXECUTE = "toy.stages:execute"


def small_plan(text=SMALL, *, overrides=(), facts=FACTS, **settings):
    return plan(parse_study(text, overrides=overrides), facts=replace(facts, **settings))


def run_toy(out, *, text=SMALL, jobs=1, overrides=(), on_event=None):
    return run_plan(small_plan(text, overrides=overrides), out, jobs=jobs, execute=EXECUTE, on_event=on_event)


def science(out):
    """Everything that must be reproducible, by cell: the records without timing, provenance and seals."""
    found = {}
    for path in sorted(Path(out).glob("cells/*/*/record.json")):
        record = json.loads(path.read_text())
        for key in ("timing", "provenance", "self_hash"):
            del record[key]
        found[record["id"]] = json.dumps(record, sort_keys=True)
    return found
