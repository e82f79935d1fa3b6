"""The model zoo: networks from images in [0, 1] to logits, their weights, and what any network needs."""

from secateur.models.checkpoint import Loaded as Loaded
from secateur.models.checkpoint import load_weights as load_weights
from secateur.models.factory import build as build
from secateur.models.factory import resolve as resolve
from secateur.models.normalisation import Normalised as Normalised
from secateur.models.normalisation import Statistics as Statistics
from secateur.models.normalisation import check_statistics as check_statistics
from secateur.models.normalisation import describe_normalisation as describe_normalisation
from secateur.models.normalisation import normalised as normalised
from secateur.models.normalisation import statistics as statistics
from secateur.models.published import accuracy_mismatch as accuracy_mismatch
from secateur.models.published import data_mismatch as data_mismatch
from secateur.models.published import load_published as load_published
from secateur.models.timing import Latency as Latency
from secateur.models.timing import time_calls as time_calls
from secateur.models.weights import NotFinite as NotFinite
from secateur.models.weights import accuracy as accuracy
from secateur.models.weights import check_accepts as check_accepts
from secateur.models.weights import device_of as device_of
from secateur.models.weights import eval_mode as eval_mode
from secateur.models.weights import initialise as initialise
from secateur.models.weights import logits as logits
from secateur.models.weights import place_of as place_of
from secateur.models.weights import predict as predict
from secateur.models.weights import to_device as to_device
from secateur.models.weights import weights_hash as weights_hash
