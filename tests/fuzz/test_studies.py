"""Study files with odd values and damaged text: a study, or sentences that say what is wrong."""

import os
import random

import pytest
import yaml

from fuzz.mutate import changed, damaged
from secateur.config import parse_study
from secateur.errors import UserError
from secateur.study import check

ROUNDS = 2000 if os.environ.keys() & {"CI", "SLOW"} else 90
STUDY = """
name: demo
data: {spec: digits, sizes: [120, 40, 40]}
models:
  net: {arch: resnet-tiny, settings: {widths: [4, 4]}, recipe: {epochs: 3, batch_size: 64}}
criteria: [l1, random]
sparsities: [0, 0.5]
finetune:
  plain: {epochs: 2, learning_rate: 0.02}
  robust: {epochs: 2, adversary: {epsilon: 8/255, step_size: 2/255, steps: 3, norm: inf}}
seeds: [0, 1]
images: 8
attacks:
  ddn: {steps: 4}
  pgd: {eps: [1/255, 2/255], norm: inf}
epsilons: {l2: [0.5]}
pruning: {schedule: iterative, rounds: 2}
"""


def asked(text, *, laid_out):
    said = "nothing"
    try:
        study = parse_study(text)
        if laid_out:  # slower, and most of what can be wrong has been said by now
            check(study)
    except UserError as refused:
        said = refused.message
    assert said


@pytest.mark.slow
def test_odd_values_and_damaged_text_are_studies_or_refused():
    data = yaml.safe_load(STUDY)
    for seed in range(ROUNDS):
        draw = random.Random(seed)
        if seed % 3:
            text = yaml.safe_dump(changed(data, draw, draw.choice([1, 1, 2])), allow_unicode=True)
        else:
            text = damaged(STUDY.encode(), draw).decode(errors="replace")
        try:
            asked(text, laid_out=seed % 8 == 1)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{text}") from error
