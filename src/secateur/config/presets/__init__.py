"""Study files to start from, each a page with comments."""

from importlib.resources import files

from secateur.errors import UserError
from secateur.text import nearest

NAMES = ("digits", "thesis", "thesis-literal")


def preset(name: str) -> str:
    """The text of the study file called ``name``. Raises UserError if there is none.

    >>> preset("digits").splitlines()[1].startswith("#")
    True
    """
    if name not in NAMES:
        near = nearest(name, NAMES)
        hint = f"did you mean '{near}'?" if near else f"known: {', '.join(NAMES)}"
        raise UserError(f"there is no preset '{name}'", hint=hint)
    return (files(__package__) / f"{name}.yaml").read_text(encoding="utf-8")


def summaries() -> dict[str, str]:
    """One line about each preset, by name: the first line of its file.

    >>> list(summaries())
    ['digits', 'thesis', 'thesis-literal']
    """
    return {name: preset(name).splitlines()[0].removeprefix("# ") for name in NAMES}
