"""The model zoo: networks from images in [0, 1] to logits, their weights, and what any network needs."""

from secateur.models.checkpoint import Loaded, load_weights
from secateur.models.factory import build, resolve
from secateur.models.normalisation import (
    Normalised,
    Statistics,
    check_statistics,
    describe_normalisation,
    normalised,
    statistics,
)
from secateur.models.published import accuracy_mismatch, data_mismatch, load_published
from secateur.models.timing import Latency, time_calls
from secateur.models.weights import (
    NotFinite,
    accuracy,
    check_accepts,
    device_of,
    eval_mode,
    initialise,
    logits,
    predict,
    to_device,
    weights_hash,
)

__all__ = [
    "Latency",
    "Loaded",
    "Normalised",
    "NotFinite",
    "Statistics",
    "accuracy",
    "accuracy_mismatch",
    "build",
    "check_accepts",
    "check_statistics",
    "data_mismatch",
    "describe_normalisation",
    "device_of",
    "eval_mode",
    "initialise",
    "load_published",
    "load_weights",
    "logits",
    "normalised",
    "predict",
    "resolve",
    "statistics",
    "time_calls",
    "to_device",
    "weights_hash",
]
