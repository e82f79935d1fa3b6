"""Attacks: pure functions that find perturbations, and ``run``, which carries one out on a dataset."""

from secateur.attacks.classes import every_class as every_class
from secateur.attacks.ddn import ddn as ddn
from secateur.attacks.fmn import fmn as fmn
from secateur.attacks.problem import Found as Found
from secateur.attacks.result import AttackResult as AttackResult
from secateur.attacks.result import Outcome as Outcome
from secateur.attacks.run import run as run
from secateur.attacks.starts import another_class as another_class
