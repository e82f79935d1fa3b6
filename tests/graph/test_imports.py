"""What is slow to import is imported where it is needed."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_to_import_the_graph_is_not_to_import_what_traces_one():
    code = "import sys, secateur.graph; print('scipy.sparse' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr
