"""The network of a check as it was handed over, as it is asked for logits, and as it is trained.

Attacks and predictions see what the user will ship: its own precision, its own answer. Pruning and
fine-tuning need logits [N, K] in float32: steps of an optimiser are lost in the rounding of half precision.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.attacks.runner.classifier import Classifier, classifier
from secateur.attacks.runner.modules import Held
from secateur.attacks.runner.outputs import Logits
from secateur.errors import UserError


@dataclass(frozen=True, eq=False)
class Handed:
    """One network in three forms.

    Attributes:
        network: as it was handed over.
        asked: from images to logits [N, K]; the network itself if that is what it is.
        working: in float32; the network itself if it is in float32 throughout.
        taught: from images to logits, in float32.
    """

    network: nn.Module
    asked: nn.Module
    working: nn.Module
    taught: nn.Module

    @property
    def said(self) -> tuple[str, ...]:
        """What was taken of its answer, and in which precision it is trained; one sentence each."""
        said = self.asked.said if isinstance(self.asked, Classifier) else ()
        if self.working is not self.network:
            said += ("it is pruned and fine-tuned in float32, and converted back before it is measured",)
        return said

    def as_asked(self, network: nn.Module) -> nn.Module:
        """A smaller or fine-tuned network, asked for logits as this one is."""
        return self.asked.around(network) if isinstance(self.asked, Classifier) else network

    def as_taught(self, network: nn.Module) -> nn.Module:
        """A copy of ``working``, asked for logits as that is."""
        return self.taught.around(network) if isinstance(self.taught, Classifier) else network

    def converted_back(self, network: nn.Module) -> nn.Module:
        """A changed copy of ``working``, in the precision of the network that was handed over, in place."""
        kinds = {name: tensor.dtype for name, tensor in self.network.state_dict().items()}
        for name, tensor in network.state_dict(keep_vars=True).items():
            tensor.data = tensor.data.to(kinds[name])
        return network


def handed(model: nn.Module, x: Tensor, *, logits: Logits = None, data: str) -> Handed:
    """The forms of ``model``, which takes images like ``x`` [N, ...], called ``data`` in errors.

    Raises:
        UserError: a function or an exported network, which cannot be pruned, and what ``attack`` refuses.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).bfloat16()
    >>> handed(net, torch.rand(2, 1, 2, 2), data="noise").working[1].weight.dtype
    torch.float32
    """
    asked = classifier(model, x, logits=logits, data=data)
    inner = asked.network if isinstance(asked, Classifier) else asked
    if isinstance(inner, Held):
        what = "a function" if inner.of_function else "an exported or frozen network"
        raise UserError(
            f"the model is {what}, which can be attacked and evaluated but not pruned",
            hint="give the torch.nn.Module itself; its answer may be a dictionary or a tuple, see logits=",
            command="let FILE.py:FUNCTION return the torch.nn.Module itself",
        )
    if all(each.dtype == torch.float32 for each in model.parameters() if each.is_floating_point()):
        return Handed(model, asked, model, asked)
    working = copy.deepcopy(model).float().eval()
    return Handed(model, asked, working, classifier(working, x, logits=logits, data=data))
