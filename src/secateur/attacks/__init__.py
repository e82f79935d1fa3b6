"""Attacks: functions that find adversarial examples, and ``run``, which runs one on a dataset."""

from secateur.attacks.alma import alma as _alma
from secateur.attacks.apgd import apgd as _apgd
from secateur.attacks.core.batch import Found as Found
from secateur.attacks.ddn import ddn as _ddn
from secateur.attacks.ensemble import every_class as every_class
from secateur.attacks.ensemble import strongest as _strongest
from secateur.attacks.fgsm import fgsm as _fgsm
from secateur.attacks.fgsm import noise as _noise
from secateur.attacks.fmn import fmn as _fmn
from secateur.attacks.pdpgd import pdpgd as _pdpgd
from secateur.attacks.pgd import pgd as _pgd
from secateur.attacks.runner.by_itself import adapting
from secateur.attacks.runner.result import AttackResult as AttackResult
from secateur.attacks.runner.result import Outcome as Outcome
from secateur.attacks.runner.run import run as run
from secateur.attacks.runner.starting_points import another_class as another_class
from secateur.attacks.sigma_zero import sigma_zero as _sigma_zero
from secateur.attacks.square_attack import square as _square
from secateur.attacks.steep.attack import steep as _steep
from secateur.run_options import RunOptions as RunOptions

# ``run`` adapts the network itself, once, and calls the attacks as their pages define them.
alma = adapting(_alma)
apgd = adapting(_apgd)
ddn = adapting(_ddn)
fgsm = adapting(_fgsm)
fmn = adapting(_fmn)
noise = adapting(_noise)
pdpgd = adapting(_pdpgd)
pgd = adapting(_pgd)
sigma_zero = adapting(_sigma_zero)
square = adapting(_square)
steep = adapting(_steep)
strongest = adapting(_strongest)
