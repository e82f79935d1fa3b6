"""Proof by computation: the pruned network equals the dense one with the removed channels masked.

``verify`` runs both in float64 on random inputs and compares outputs and input gradients.
"""

from secateur.proof.verify import Proof as Proof
from secateur.proof.verify import verify as verify
