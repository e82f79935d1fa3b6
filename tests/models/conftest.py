import os
from pathlib import Path

import pytest

from models.checkpoints import source


@pytest.fixture
def shared():
    """The folder of data that is not ours to commit; without it the test is skipped."""
    default = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SECATEUR_DATA", default))
    if not folder.is_dir():
        pytest.skip("SECATEUR_DATA names no folder")
    return folder


@pytest.fixture
def state():
    return source().state_dict()
