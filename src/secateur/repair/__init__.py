"""Repair: adapt a plan to widths that the model's own code reads from attributes.

The pruned shapes are run on the meta device; attributes and equal counts that explain a failure are repaired.
"""

from secateur.repair.alive import keep_alive as keep_alive
from secateur.repair.shapes import fit_plan as fit_plan
from secateur.repair.shapes import repairs_of as repairs_of
