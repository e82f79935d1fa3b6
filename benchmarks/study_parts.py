"""What the worker processes of benchmarks/study.py do: a cell, with its CPU seconds by part in a file.

``STUDY_PARTS`` names the file; every line is a JSON object of seconds by part.
"""

import json
import os
import time
from pathlib import Path

from secateur import models, stages
from secateur.stages.networks import splits_of

EVALUATED = 0.0
FIRST = True
_accuracy = models.accuracy


def accuracy(*args, **settings):
    """``models.accuracy`` as the stages call it, timed."""
    global EVALUATED
    begun = time.process_time()
    try:
        return _accuracy(*args, **settings)
    finally:
        EVALUATED += time.process_time() - begun


models.accuracy = accuracy


def execute(study, cell, store, *, on_progress=None):
    """``stages.execute``, timed."""
    global EVALUATED, FIRST
    begun, EVALUATED, spent = time.process_time(), 0.0, {}
    if FIRST:
        FIRST = False
        spent["start"] = begun
        splits_of(study)
        spent["data"], begun = time.process_time() - begun, time.process_time()
    parts = stages.execute(study, cell, store, on_progress=on_progress)
    spent["evaluate"] = EVALUATED
    spent[cell.stage] = time.process_time() - begun - EVALUATED
    with Path(os.environ["STUDY_PARTS"]).open("a") as file:
        file.write(json.dumps(spent) + "\n")
    return parts
