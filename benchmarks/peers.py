"""Imports torchvision on machines whose torch it has no compiled operators for."""

import torch

_MISSING = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)


def import_torchvision():
    """torchvision, with the operators that its import looks for declared (but not implemented)."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _MISSING:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            library.define(schema)
    import torchvision

    torchvision._secateur_operators = library
    return torchvision
