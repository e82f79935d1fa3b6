"""Two networks of one kind, and what every refused file leaves behind."""

import pytest
import torch

from secateur.errors import UserError
from secateur.models import build, load_weights, weights_hash


def source():
    model = build("resnet-tiny", widths=(4, 6))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25)
    return model


def target():
    return build("resnet-tiny", widths=(4, 6))


def refused(path, said, **settings):
    """Loading fails in one sentence and leaves the model unchanged."""
    model = target()
    before = weights_hash(model)
    with pytest.raises(UserError, match=said) as caught:
        load_weights(model, path, **settings)
    assert "\n" not in str(caught.value)
    assert weights_hash(model) == before
