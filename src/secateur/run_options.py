"""How an attack is run, whatever the attack: one record for studies, the command line and Python.

An option of users is a field of ``RunOptions`` with a ``Setting``: its description and its range.
Studies take their fields from here (``config.study``), ``secateur attack`` its options (``cli.options``), and
``attacks.run`` separates them from the attack's own settings. Only the code in ``attacks.runner`` that
carries an option out names it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, get_args, get_origin

from secateur.budgets import plain
from secateur.errors import UserError
from secateur.kinds import is_whole
from secateur.recipes import Setting

Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True)
class RunOptions:
    """How an attack is run. Every example is verified on the original model in full precision regardless.

    ``early_stop`` removes an image from the search once it has converged (see ``QueryCounter``).
    ``search_precision`` ``"tf32"`` or ``"bfloat16"`` rounds in every layer of the search, for GPUs; distances
    grow a little. ``compile`` searches by ``torch.compile``. ``restarts`` runs an attack that draws random
    numbers several times with different ones; the nearest example of each image counts.

    ``eot_samples`` is for networks that draw random numbers: every query, of the search, of the clean image
    and of the verification, is answered by the mean logits of so many forwards, and gradients are those of
    the mean. All of them count as passes.

    The other fields choose the accelerated copy of the model, for measurements: ``fold`` merges batch
    normalisation into the convolution before it, ``grey`` uses a faster backward pass for one-channel
    convolutions in float32 on CPUs, ``channels_last`` sets the memory format (None: by the kind of layers).

    Raises:
        UserError: an unknown precision, or fewer than one run.

    >>> RunOptions(restarts=5).changed()
    {'restarts': 5}
    """

    early_stop: Annotated[
        bool, Setting("stop converged images early: fewer passes, slightly larger distances")
    ] = False
    search_precision: Annotated[
        Precision,
        Setting("precision of the search: float32, tf32 or bfloat16; examples are verified in float32"),
    ] = "float32"
    compile: Annotated[bool, Setting("run the search with torch.compile")] = False
    restarts: Annotated[
        int, Setting("restarts with new random numbers or the next starting point; the nearest counts", ge=1)
    ] = 1
    eot_samples: Annotated[
        int, Setting("forwards per query of a random network; their mean logits decide", ge=1)
    ] = 1
    fold: bool = True
    grey: bool = True
    channels_last: bool | None = None

    def __post_init__(self) -> None:
        if self.search_precision not in (known := get_args(Precision)):
            raise UserError(
                f"there is no search precision '{self.search_precision}'",
                hint=f"choose one of {', '.join(known)}",
            )
        for name in ("restarts", "eot_samples"):
            value = getattr(self, name)
            if not is_whole(value, least=1):
                raise UserError(f"{name} is {value!r}", hint="give a whole number of at least 1")

    @classmethod
    def original(cls) -> "RunOptions":
        """Search on the model itself, without an accelerated copy."""
        return cls(fold=False, grey=False, channels_last=False)

    def changed(self) -> dict[str, Any]:
        """The options of users that differ from their defaults, by name."""
        values = ((part.name, getattr(self, part.name), part.default) for part in fields(self))
        return {name: value for name, value, default in values if name in NAMES and value != default}


NAMES = tuple(part.name for part in fields(RunOptions) if get_origin(part.type) is Annotated)
"""The options that a study, the command line and ``secateur.attack`` accept beside an attack's settings."""


def split(
    settings: Mapping[str, Any], options: RunOptions | None = None
) -> tuple[RunOptions, dict[str, Any]]:
    """``options`` with those among the ``settings``, and the settings that are the attack's own.

    >>> split({"steps": 40, "restarts": 5})[1]
    {'steps': 40}
    """
    given = {name: plain(value) for name, value in settings.items() if name in NAMES}
    own = {name: value for name, value in settings.items() if name not in NAMES}
    return replace(options or RunOptions(), **given), own
