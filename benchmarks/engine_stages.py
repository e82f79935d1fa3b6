"""Stages that compute nothing, or keep one core busy, for ``engine.py``; named to workers as ``module:function``.

ENGINE_BYTES: the size of a record. ENGINE_SECONDS: how long ``busy`` computes, in CPU seconds.
"""

import os
import random
import time
from hashlib import sha256

from engine_folder import science_of

from secateur.store import Parts

BLOCK = bytes(2**16)
# To make up numbers is no overhead of a cell.
MADE = {}


def nothing(study, cell, store, *, on_progress):
    """No work: what is left is the overhead of a cell."""
    if cell.stage not in MADE:
        MADE[cell.stage] = science_of(cell, int(os.environ["ENGINE_BYTES"]), random.Random(0))
    return Parts(MADE[cell.stage])


def busy(study, cell, store, *, on_progress):
    """The same amount of work in every cell, on one core."""
    end = time.process_time() + float(os.environ["ENGINE_SECONDS"])
    while time.process_time() < end:
        sha256(BLOCK)
    return nothing(study, cell, store, on_progress=on_progress)
