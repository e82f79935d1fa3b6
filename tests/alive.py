"""What memory a test holds, counted from the tensors themselves."""

import gc

import torch


def bytes_alive():
    """Bytes of all tensors that are alive; after many tests in a process a count takes half a second."""
    gc.collect()
    storages = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
        for each in gc.get_objects()
        # Tensors of other classes, which a compiler may have left, hold no memory of their own.
        if type(each) is torch.Tensor and each.layout == torch.strided and each.device.type == "cpu"
    }
    return sum(storages.values())
