"""Published and shipped weights: their network, their download, and the accuracy they should reach."""

from pathlib import Path
from typing import Any

from torch import nn

from secateur.errors import ExitCode, UserError
from secateur.models.checkpoint import load_weights
from secateur.registry import Entry, checkpoint
from secateur.text import first_line
from secateur.untrusted import cache_folder

TOLERANCE = 0.2
_ANYTHING = {"folder", "npz", "idx"}


def load_published(model: nn.Module, spec: str) -> Path:
    """Load the weights of ``spec`` into its network, from the package, the cache or their source.

    The cache is $SECATEUR_CACHE, else ``secateur`` in $XDG_CACHE_HOME or ``~/.cache``. No hash of these files
    is published: the first download must fit the network, and its sha256 is stored beside it for later
    checks.

    Returns:
        The file that was loaded.

    Raises:
        UserError: unknown name, no download, a damaged file, or another file than the stored hash.

    >>> from secateur.models import build
    >>> load_published(build("resnet-tiny"), "shipped:digits-plain").name
    'digits-plain.safetensors'
    """
    entry = checkpoint(spec)
    if "file" in entry.facts:
        shipped: Path = Path(__file__).parent / "shipped" / entry.facts["file"]
        load_weights(model, shipped)
        return shipped
    path: Path = cache_folder() / "checkpoints" / entry.facts["dataset"] / f"{entry.name}.pt"
    pin = path.with_suffix(".sha256")
    if path.is_file():
        load_weights(model, path, sha256=pin.read_text().strip() if pin.is_file() else None)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Under a temporary name until it is checked, so that an interrupted download is never used.
    part = path.with_suffix(".part")
    _download(entry, part)
    try:
        loaded = load_weights(model, part)
    except UserError:
        part.unlink(missing_ok=True)
        raise
    pin.write_text(loaded.sha256 + "\n")
    part.replace(path)
    return path


def accuracy_mismatch(spec: str, accuracy: float, *, n: int) -> str | None:
    """A sentence if the measured clean ``accuracy`` (0 to 1, on ``n`` images) is not the published one.

    Deviations above 0.2 points are reported on all 10 000 test images; on fewer images three standard errors
    are added.

    >>> accuracy_mismatch("shipped:digits-plain", 0.9907, n=540) is None
    True
    """
    expected = checkpoint(spec).facts["clean_accuracy"]
    # Binomial: the published network would itself differ this much on another n images.
    share = expected / 100
    spread = 0.0 if n >= 10_000 else 300 * (share * (1 - share) / n) ** 0.5
    gap = 100 * accuracy - expected
    if abs(gap) <= TOLERANCE + spread:
        return None
    return (
        f"{spec} has {100 * accuracy:.2f} % clean accuracy on {n} images, but {expected:.2f} % is published: "
        "other weights, other data or another normalisation"
    )


def data_mismatch(spec: str, data: str) -> str | None:
    """A sentence if ``data`` are not the images on which the weights of ``spec`` should be evaluated.

    Either they include training images, as ``digits`` does for ``shipped:digits-plain``, or they are another
    data set. Nothing is known about users' own files (``folder:``, ``npz:``, ``idx:``).

    >>> data_mismatch("shipped:digits-plain", "digits:split") is None
    True
    >>> data_mismatch("shipped:digits-plain", "cifar10:data")
    'shipped:digits-plain was trained on digits, not on cifar10'
    """
    known = checkpoint(spec).facts["dataset"]
    source, own = data.partition(":")[0], known.partition(":")[0]
    if data == known or source in _ANYTHING or (source == own and ":" not in known):
        return None
    if source == own:
        return f"{spec} was trained on part of {data}: {known} holds those images apart"
    return f"{spec} was trained on {own}, not on {source}"


def _download(entry: Entry, path: Path) -> None:
    gdown = _gdown(entry)
    kinds = ("DownloadError", "FileURLRetrievalError")
    failures = tuple(getattr(gdown.exceptions, kind) for kind in kinds if hasattr(gdown.exceptions, kind))
    try:
        gdown.download(id=entry.facts["gdrive"], output=str(path), quiet=True, resume=True)
    except (OSError, RuntimeError, *failures) as error:
        raise UserError(
            f"the weights of '{entry.name}' could not be downloaded: {first_line(error, 'no reason given')}",
            hint=_by_hand(entry),
            code=ExitCode.ENVIRONMENT,
        ) from error


def _gdown(entry: Entry) -> Any:
    try:
        import gdown
    except ImportError as error:
        raise UserError(
            f"downloading the weights of '{entry.name}' needs the package gdown",
            hint=f"pip install secateur[data], or {_by_hand(entry)}",
            code=ExitCode.ENVIRONMENT,
        ) from error
    return gdown


def _by_hand(entry: Entry) -> str:
    return f"fetch https://drive.google.com/file/d/{entry.facts['gdrive']} by hand and pass it as weights"
