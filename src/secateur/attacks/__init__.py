"""Attacks: pure functions that find perturbations, and ``run``, which carries one out on a dataset."""

from secateur.attacks.core.batch import Found as Found
from secateur.attacks.ddn import ddn as ddn
from secateur.attacks.every_class import every_class as every_class
from secateur.attacks.fmn import fmn as fmn
from secateur.attacks.runner.result import AttackResult as AttackResult
from secateur.attacks.runner.result import Outcome as Outcome
from secateur.attacks.runner.run import run as run
from secateur.attacks.runner.starting_points import another_class as another_class
