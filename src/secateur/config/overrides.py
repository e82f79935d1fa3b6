"""Settings from the command line that replace those of the file: ``--set path.to.key=value``."""

from typing import Any

from secateur.config.yaml12 import Source, parse_value
from secateur.errors import UserError


def override(source: Source, text: str) -> None:
    """Replace or add one setting in ``source``.

    Args:
        source: a study file; changed in place.
        text: ``path.to.key=value``, the value in YAML syntax: ``sparsities=[0.3, 0.5]``.

    Raises:
        UserError: no ``=``, no YAML, or a path through something that is no mapping.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"'--set {text}' is no setting", hint="write --set path.to.key=value")
    place = f"--set {key}"
    _put(source.data, key, parse_value(value, place, key), whole=key)
    for known in [name for name in source.lines if name == key or name.startswith(f"{key}.")]:
        del source.lines[known]
    source.overridden[key] = place


def _put(data: Any, key: str, value: Any, *, whole: str) -> None:
    if isinstance(data, list):
        head, _, rest = key.partition(".")
        if not (head.isascii() and head.isdigit()) or int(head) >= len(data):
            raise UserError(f"'--set {whole}': the list has entries 0 to {len(data) - 1}")
        if rest:
            _put(data[int(head)], rest, value, whole=whole)
        else:
            data[int(head)] = value
        return
    if not isinstance(data, dict):
        raise UserError(f"'--set {whole}': there is no mapping to put '{key}' into")
    # Labels may contain dots, so the longest key that exists wins.
    known = [name for name in data if key.startswith(f"{name}.")]
    if known:
        name = max(known, key=len)
        _put(data[name], key[len(name) + 1 :], value, whole=whole)
        return
    head, _, rest = key.partition(".")
    if rest and key not in data:
        data[head] = {}
        _put(data[head], rest, value, whole=whole)
    else:
        data[key] = value
