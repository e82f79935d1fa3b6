"""Study files to start from, each a page with comments."""

import json
import re
from importlib.resources import files
from pathlib import PurePath
from shlex import quote

from secateur.errors import UserError
from secateur.registry import HUB, has_weights, of_own_file
from secateur.text import did_you_mean

NAMES = ("digits", "thesis", "thesis-literal")


def preset(name: str) -> str:
    """The text of the study file called ``name``. Raises UserError if there is none.

    >>> preset("digits").splitlines()[1].startswith("#")
    True
    """
    if name not in NAMES:
        hint = did_you_mean(name, NAMES, otherwise=f"known: {', '.join(NAMES)}")
        raise UserError(f"there is no preset '{name}'", hint=hint)
    return (files(__package__) / f"{name}.yaml").read_text(encoding="utf-8")


def own_study(
    path: str,
    *,
    model: str,
    data: str,
    weights: str | None = None,
    robust: bool = False,
    normalise: str | None = None,
    size: tuple[int, ...] | None = None,
) -> str:
    """The text of a study of one's own network.

    Args:
        path: of the study file, for the commands in its comments.
        model: as ``arch`` of a study, or ``FILE.py:FUNCTION``.
        data: as ``data`` of a study.
        weights: a file, or a folder that ``prune`` wrote; without it a network of the zoo is trained, and
            others keep the weights that they come with.
        robust: whether the network was trained adversarially; published networks say so themselves.
        normalise: what the network expects, as ``{mean: 0.5, std: 0.2}``.
        size: height and width that images are resized to.

    >>> text = own_study("s.yaml", model="net.py:build", data="folder:my images", weights="w.pth")
    >>> [line.split("#")[0].strip() for line in text.splitlines() if "arch" in line or "folder:" in line]
    ['data: "folder:my images"', 'arch: net.py:build']
    """
    source, _, function = model.rpartition(":")
    file = source if of_own_file(model) else ""
    given = f"weights: {_scalar(weights)}" if weights else "# weights: FILE"
    trained = weights or file or has_weights(model) or model.startswith(HUB)
    words = {
        "THIS": path,
        " PLUGIN": f" --plugin {quote(file)}" if file else "",
        "NAME": _label(PurePath(file).stem if file else function),
        "DATA": _scalar(data) if size is None else f"{{spec: {_scalar(data)}, resize: {[*size]}}}",
        "ARCH": _scalar(model),
        "WEIGHTS": given if trained else "recipe: {epochs: 20, batch_size: 128}",
        "ROBUST": "# robust: as it was published"
        if has_weights(model) and not weights
        else f"robust: {str(robust).lower()}",
        "NORMALISE": f"normalise: {normalise}" if normalise else "# normalise: {mean: [...], std: [...]}",
    }
    text = (files(__package__) / "own.yaml").read_text(encoding="utf-8")
    return re.sub("|".join(map(re.escape, words)), lambda found: words[found[0]], text)


def _scalar(text: str) -> str:
    """Text as YAML: in quotes unless it cannot be read as anything else."""
    return text if re.fullmatch(r"[A-Za-z./][\w./:~-]*(?<!:)", text) else json.dumps(text, ensure_ascii=False)


def _label(text: str) -> str:
    """A name that a study accepts."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:40] or "mine"
