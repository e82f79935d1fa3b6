"""Imports torchvision on machines whose torch it has no compiled operators for."""

import sys
from importlib import import_module

import torch

_MISSING = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)


def import_torchvision():
    """torchvision, with the operators that its import looks for declared (but not implemented)."""
    if (loaded := sys.modules.get("torchvision")) and hasattr(loaded, "_secateur_operators"):
        return loaded
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _MISSING:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            library.define(schema)
    import torchvision

    torchvision._secateur_operators = library
    return torchvision


def torchvision_with_operators():
    """torchvision, with what its detectors call: as opaque as the compiled operators, slow, and right."""
    torchvision = import_torchvision()
    from torchvision import extension
    from torchvision.ops.roi_align import _roi_align

    # The second time they are there.
    if extension._has_ops():
        return torchvision
    library = torchvision._secateur_operators
    library.impl("nms", _suppressed, "CPU")
    library.impl("roi_align", _roi_align, "CPU")

    def remember(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])
        ctx.settings = inputs[2:]

    def backward(ctx, gradient):
        image, rois = ctx.saved_tensors
        with torch.enable_grad():
            again = image.detach().requires_grad_()
            found = torch.autograd.grad(_roi_align(again, rois, *ctx.settings), again, gradient)
        return (*found, *(None,) * (1 + len(ctx.settings)))

    torch.library.register_autograd("torchvision::roi_align", backward, setup_context=remember, lib=library)
    for module in (extension, import_module("torchvision.ops.roi_align")):
        module._has_ops = lambda: True
    return torchvision


def _suppressed(boxes, scores, limit):
    """Non-maximum suppression: the numbers of the boxes that stay, best first."""
    order, kept = scores.argsort(descending=True, stable=True).tolist(), []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = torch.ones(len(boxes), dtype=torch.bool)
    for best in order:
        if not left[best]:
            continue
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[:, :2])
        high = torch.minimum(boxes[best, 2:], boxes[:, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        left &= shared / (area[best] + area - shared) <= limit
    return torch.tensor(kept, dtype=torch.int64)
