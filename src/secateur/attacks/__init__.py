"""Attacks: functions that find adversarial examples, and ``run``, which runs one on a dataset."""

from secateur.attacks.alma import alma as alma
from secateur.attacks.apgd import apgd as apgd
from secateur.attacks.core.batch import Found as Found
from secateur.attacks.ddn import ddn as ddn
from secateur.attacks.ensemble import every_class as every_class
from secateur.attacks.ensemble import strongest as strongest
from secateur.attacks.fgsm import fgsm as fgsm
from secateur.attacks.fgsm import noise as noise
from secateur.attacks.fmn import fmn as fmn
from secateur.attacks.pdpgd import pdpgd as pdpgd
from secateur.attacks.pgd import pgd as pgd
from secateur.attacks.runner import by_itself as _by_itself
from secateur.attacks.runner.result import AttackResult as AttackResult
from secateur.attacks.runner.result import Outcome as Outcome
from secateur.attacks.runner.run import run as run
from secateur.attacks.runner.starting_points import another_class as another_class
from secateur.attacks.sigma_zero import sigma_zero as sigma_zero
from secateur.attacks.square_attack import square as square
from secateur.attacks.steep.attack import steep as steep
from secateur.run_options import RunOptions as RunOptions

# ``run`` adapts the network itself, once, and calls the attacks as their pages define them; these are for
# everybody else. ``every_class`` calls the attack that it is given.
for _name in (
    *("alma", "apgd", "ddn", "fgsm", "fmn", "noise", "pdpgd", "pgd", "sigma_zero", "square", "steep"),
    "strongest",
):
    globals()[_name] = _by_itself.adapting(globals()[_name])
    # Where another process finds it.
    globals()[_name].__module__ = __name__
