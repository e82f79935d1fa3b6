"""Export networks as ONNX and torch.export files, checked against the model, measured and described."""

from secateur.exports.costs import Cost, measure_costs
from secateur.exports.formats import load_exported
from secateur.exports.record import Exported
from secateur.exports.writing import export

__all__ = ["Cost", "Exported", "export", "load_exported", "measure_costs"]
