"""Run one attack against one model: verified, measured and graded."""

from secateur.evaluate.attacking import attack as attack
from secateur.evaluate.evaluated import Evaluated as Evaluated
from secateur.evaluate.evaluated import save_examples as save_examples
