"""A model's parameters and buffers, by name."""

import torch
from torch import Tensor, nn


def parameters_and_buffers(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers by name, shared ones once, in the order of the modules that hold them.

    These are ``named_parameters`` and ``named_buffers``, found in one walk through the model.
    """
    parameters: dict[int, tuple[str, Tensor]] = {}
    buffers: dict[int, tuple[str, Tensor]] = {}
    for module_name, module in model.named_modules():
        start = f"{module_name}." if module_name else ""
        for held, found in ((module._parameters, parameters), (module._buffers, buffers)):
            for name, tensor in held.items():
                if tensor is not None:
                    found.setdefault(id(tensor), (start + name, tensor))
    return dict(parameters.values()), dict(buffers.values())


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, then buffers, by name."""
    parameters, buffers = parameters_and_buffers(model)
    return parameters | buffers


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all parameters and buffers."""
    return {name: tuple(tensor.shape) for name, tensor in named_tensors(model).items()}


def non_persistent_buffers(model: nn.Module) -> set[str]:
    """Names of the buffers that are in no state dict: the class makes them, some only in a forward pass."""
    return {
        f"{module_name}.{name}" if module_name else name
        for module_name, module in model.named_modules()
        for name in module._non_persistent_buffers_set
        if module._buffers.get(name) is not None
    }


def scripted_modules(model: nn.Module) -> tuple[str, ...]:
    """Names of the outermost modules that are compiled to TorchScript.

    >>> scripted_modules(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)))
    ()
    """
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, torch.jit.ScriptModule) and not inside:
            found.append(name)
    return tuple(found)


def find_parameter(model: nn.Module, name: str) -> nn.Parameter | None:
    """The parameter of this name, ``None`` where it is a buffer."""
    *path, attribute = name.split(".")
    for part in path:
        model = model._modules[part]  # type: ignore[assignment]
    # TorchScript holds them in a class of its own, which has no get.
    return dict(model._parameters).get(attribute)
