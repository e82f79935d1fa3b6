"""Small phrases that messages and reports share: lists, counts, durations, near misses, and safe spelling."""

import json
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

CUTOFF = 0.5
"""How alike two words must be, from 0 to 1, to suggest the one for the other."""

# What could move the cursor, clear the screen, reverse the reading order, or not be printed at all.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]"
)
_LINES = {ord("\n"): "\\n", ord("\t"): "\\t"}


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like ``word``, or an empty string if none is like it.

    >>> nearest("magnitud", ["magnitude", "random"])
    'magnitude'
    """
    near = get_close_matches(word, list(known), n=1, cutoff=CUTOFF)
    return near[0] if near else ""


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """A hint that names the known word most like ``word``, or ``otherwise``.

    >>> did_you_mean("resnt18", ["resnet18", "vgg16"], otherwise="see secateur ls models")
    "did you mean 'resnet18'?"
    """
    near = nearest(word, known)
    return f"did you mean '{near}'?" if near else otherwise


def listed(words: Sequence[str], *, last: str = "and") -> str:
    """Words in a row: ``a``, ``a and b``, ``a, b and c``; "" for none.

    >>> listed(["ddn", "fmn", "pgd"], last="or")
    'ddn, fmn or pgd'
    """
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def first_few(words: Sequence[str], limit: int = 5, *, between: str = ", ") -> str:
    """The first ``limit`` words, and how many more there are.

    >>> first_few(["conv1", "conv2", "conv3"], limit=2)
    'conv1, conv2 and 1 more'
    """
    shown = between.join(words[:limit])
    return shown if len(words) <= limit else f"{shown} and {len(words) - limit} more"


def counted(count: int, noun: str) -> str:
    """A number with its noun, regular plurals only.

    >>> counted(1, "CPU thread"), counted(4, "CPU thread")
    ('1 CPU thread', '4 CPU threads')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float | None) -> str:
    """A duration, rounded to what a reader needs.

    >>> duration(8.2), duration(200), duration(7500), duration(None)
    ('8 s', '3 min 20 s', '2 h 5 min', 'unknown')
    """
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def first_line(error: BaseException, otherwise: str = "no message") -> str:
    r"""The first line of an error's message, or ``otherwise`` if it has none.

    >>> first_line(ValueError("too large\nsee the log"))
    'too large'
    """
    return (str(error).strip().splitlines() or [otherwise])[0]


def shown(text: str) -> str:
    r"""Text of a file as it may be printed: control characters are spelled out; line ends and tabs stay.

    >>> shown("demo\x1b[2J")
    'demo\\x1b[2J'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown_in_line(text: str) -> str:
    r"""Like :func:`shown`, with line ends and tabs spelled out too, so that a name cannot look like a line.

    >>> shown_in_line("demo\ndone")
    'demo\\ndone'
    """
    return shown(text).translate(_LINES)


def json_line(value: Any) -> str:
    r"""``value`` as JSON on one line that may be printed. Raises ValueError for NaN, which is not JSON.

    >>> json_line({"name": "é\x9b"})
    '{"name": "é\\u009b"}'
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
