"""Networks as files that need no class of ours: ONNX and torch.export, checked and measured."""

from secateur.exports.costs import Cost as Cost
from secateur.exports.costs import measure_costs as measure_costs
from secateur.exports.record import Exported as Exported
from secateur.exports.writing import export as export

__all__ = ["Cost", "Exported", "export", "measure_costs"]
