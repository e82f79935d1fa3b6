"""The zoo: networks that map images in [0, 1] to logits, and their weights."""

from secateur.models.checkpoint import Loaded as Loaded
from secateur.models.checkpoint import load_weights as load_weights
from secateur.models.names import build as build
from secateur.models.names import resolve as resolve
from secateur.models.published import load_published as load_published
from secateur.models.published import off_published as off_published
from secateur.models.published import other_images as other_images
from secateur.models.timing import Latency as Latency
from secateur.models.timing import time_calls as time_calls
from secateur.models.weights import NotFinite as NotFinite
from secateur.models.weights import accuracy as accuracy
from secateur.models.weights import check_fits as check_fits
from secateur.models.weights import evaluating as evaluating
from secateur.models.weights import initialise as initialise
from secateur.models.weights import logits as logits
from secateur.models.weights import place as place
from secateur.models.weights import predict as predict
from secateur.models.weights import weights_hash as weights_hash
from secateur.models.wrapped import Normalised as Normalised
from secateur.models.wrapped import Statistics as Statistics
from secateur.models.wrapped import normalised as normalised
from secateur.models.wrapped import own_statistics as own_statistics
from secateur.models.wrapped import statistics as statistics
from secateur.models.wrapped import statistics_of as statistics_of
from secateur.models.wrapped import told as told
