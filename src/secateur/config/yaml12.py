"""A study file as plain data that remembers the line of every setting, and overrides of its settings.

Tags, objects, duplicate keys and files beyond fixed limits of size and depth are refused. Numbers follow
YAML 1.2 (``1e-3`` is a number), fractions such as ``8/255`` are numbers, and words that are booleans in YAML
1.1 alone (``yes``, ``no``, ``on``, ``off``) are refused.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from secateur.config.problems import Problem, refuse
from secateur.errors import UserError
from secateur.text import first_line

# Measured against ruamel.yaml 0.19, which resolves YAML 1.2: it takes 28 instead of 18 ms per study and 54
# instead of 46 ms to import, and would replace only the patterns of numbers and booleans. It reads 0x1F and
# dates as values, 010 as 10, inf and yes as words, stops at the first duplicate key, accepts an anchor inside
# itself and overflows the stack on 5,000 brackets: every check below would stay.
MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_DIGITS = 40

INTEGER = re.compile(r"[-+]?\d[\d_]*")
FLOAT = re.compile(r"[-+]?(\d[\d_]*(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
FRACTION = re.compile(r"([-+]?\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)")
INFINITY = re.compile(r"[-+]?\.?inf", re.IGNORECASE)
NAN = re.compile(r"\.?nan", re.IGNORECASE)
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
NULLS = {"", "~", "null", "Null", "NULL"}
AMBIGUOUS = {"yes", "no", "on", "off"}


@dataclass
class Source:
    """A parsed file: plain data, the line of every key, and problems of its spelling.

    Keys are dotted paths such as ``attacks.ddn.steps``. ``overridden`` holds the option that replaced a key.
    """

    file: str
    data: Any = None
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    overridden: dict[str, str] = field(default_factory=dict)
    nodes: int = 0

    def location(self, key: str) -> str:
        """``file:line`` of ``key``, or of the nearest key above it."""
        while key and key not in self.lines:
            if key in self.overridden:
                return self.overridden[key]
            key = key.rpartition(".")[0]
        return f"{self.file}:{self.lines.get(key, 1)}"

    def complain(self, node: yaml.Node, key: str, sentence: str) -> None:
        """Note a problem at ``node``."""
        self.problems.append(Problem(f"{self.file}:{node.start_mark.line + 1}", key, sentence))


def read_source(path: Path) -> Source:
    """Read a YAML file.

    Raises:
        UserError: the file cannot be read, is not YAML, or exceeds the limits.
    """
    try:
        if not path.is_file():
            raise UserError(f"there is no study file {path}", hint="write one with 'secateur init'")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UserError(f"{path} has {size:,} bytes; a study file has at most {MAX_BYTES:,}")
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})") from None
    return parse_source(text, str(path))


def parse_source(text: str, file: str) -> Source:
    """Parse YAML ``text``; ``file`` names it in messages. Raises UserError as :func:`read_source`."""
    source = Source(file)
    try:
        _check_events(text, source)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise refuse([Problem(f"{file}:{line}", "", f"not YAML: {error.problem or error.context}")]) from None
    except yaml.YAMLError as error:
        raise refuse([Problem(f"{file}:1", "", f"not YAML: {first_line(error)}")]) from None
    if not isinstance(node, yaml.MappingNode):
        raise refuse([Problem(f"{file}:1", "", "a study is a mapping of settings, this file has none")])
    source.data = _convert(node, "", 0, source)
    return source


def parse_value(text: str, file: str, key: str) -> Any:
    """One value in the syntax of a study file, as written after ``--set key=``. Raises UserError."""
    source = parse_source(f"value: {text}", file)
    if source.problems:
        raise refuse([Problem(file, key, source.problems[0].sentence)])
    return source.data["value"]


def _check_events(text: str, source: Source) -> None:
    # PyYAML composes by recursion, so depth must be bounded before: 10,000 brackets would overflow the stack.
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{source.file}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise refuse([Problem(where, "", f"nested deeper than {MAX_DEPTH} levels")])
        if tag := getattr(event, "tag", None):
            raise refuse([Problem(where, "", f"the tag '{tag}' is not allowed: a study is plain data")])


def _convert(node: yaml.Node, key: str, depth: int, source: Source) -> Any:
    _check_size(node, key, depth, source)
    source.lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, key, depth, source)
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, f"{key}.{i}", depth + 1, source) for i, item in enumerate(node.value)]
    return _scalar(node, key, source) if isinstance(node, yaml.ScalarNode) else None


def _check_size(node: yaml.Node, key: str, depth: int, source: Source) -> None:
    source.nodes += 1
    if source.nodes > MAX_NODES or depth > MAX_DEPTH:
        what = f"more than {MAX_NODES:,} values" if source.nodes > MAX_NODES else "aliases without end"
        raise refuse([Problem(f"{source.file}:{node.start_mark.line + 1}", key, f"{what} after expansion")])


def _mapping(node: yaml.MappingNode, key: str, depth: int, source: Source) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name_node, value_node in node.value:
        if not isinstance(name_node, yaml.ScalarNode):
            source.complain(name_node, key, "a key must be a word")
            continue
        name = name_node.value
        inner = f"{key}.{name}" if key else name
        if name == "<<" and name_node.style is None:
            merged |= _merge(value_node, inner, depth, source)
            continue
        if name_node.style is None and name.lower() in AMBIGUOUS:
            source.complain(name_node, inner, _ambiguous(name))
        if name in own:
            source.complain(name_node, inner, f"set twice (first in line {source.lines[inner]})")
        source.lines[inner] = name_node.start_mark.line + 1
        own[name] = _convert(value_node, inner, depth + 1, source)
    return merged | own


def _merge(node: yaml.Node, key: str, depth: int, source: Source) -> dict[str, Any]:
    parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
    merged: dict[str, Any] = {}
    # An anchor may contain itself; only the count of nodes ends this recursion.
    _check_size(node, key, depth, source)
    for part in parts:
        if not isinstance(part, yaml.MappingNode):
            source.complain(part, key, "'<<' needs a mapping, for example '<<: *name'")
            continue
        # The first mapping wins, as in the YAML merge specification.
        merged = _mapping(part, key, depth + 1, source) | merged
    return merged


def _scalar(node: yaml.ScalarNode, key: str, source: Source) -> Any:
    text: str = node.value
    if node.style is not None:
        return text
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if text.lower() in AMBIGUOUS:
        source.complain(node, key, _ambiguous(text))
        return text
    if NAN.fullmatch(text):
        source.complain(node, key, "NaN is not a number")
        return None
    return _number(node, text, key, source)


def _number(node: yaml.Node, text: str, key: str, source: Source) -> Any:
    if INFINITY.fullmatch(text):
        return -math.inf if text.startswith("-") else math.inf
    if fraction := FRACTION.fullmatch(text):
        if float(fraction[2]) == 0:
            source.complain(node, key, f"'{text}' divides by zero")
            return None
        return float(fraction[1]) / float(fraction[2])
    if not FLOAT.fullmatch(text):
        return text
    if len(text) > MAX_DIGITS:
        source.complain(node, key, f"a number of {len(text)} digits")
        return None
    digits = text.replace("_", "")
    if INTEGER.fullmatch(text):
        if len(digits.lstrip("+-")) > 1 and digits.lstrip("+-").startswith("0"):
            source.complain(
                node, key, f"'{text}' is octal in YAML 1.1 and decimal in YAML 1.2: remove the leading 0"
            )
        return int(digits)
    if math.isinf(float(digits)):
        source.complain(node, key, f"'{text}' is too large for a number")
        return None
    return float(digits)


def _ambiguous(text: str) -> str:
    return f"'{text}' is a boolean in YAML 1.1 and a word in YAML 1.2: write true, false or \"{text}\""


def override(source: Source, text: str) -> None:
    """Replace or add one setting in ``source``.

    Args:
        source: a study file; changed in place.
        text: ``path.to.key=value``, the value in YAML syntax: ``sparsities=[0.3, 0.5]``.

    Raises:
        UserError: no ``=``, a value that is not YAML, or a path through something that is not a mapping.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"invalid override '--set {text}': expected path.to.key=value")
    option = f"--set {key}"
    _put(source.data, key, parse_value(value, option, key), whole=key)
    # Errors about the new value are located at the option, no longer at a line of the file.
    for known in [name for name in source.lines if name == key or name.startswith(f"{key}.")]:
        del source.lines[known]
    source.overridden[key] = option


def _put(data: Any, key: str, value: Any, *, whole: str) -> None:
    if isinstance(data, list):
        head, _, rest = key.partition(".")
        if not (head.isascii() and head.isdigit()) or int(head) >= len(data):
            raise UserError(f"invalid override '--set {whole}': the list has entries 0 to {len(data) - 1}")
        if rest:
            _put(data[int(head)], rest, value, whole=whole)
        else:
            data[int(head)] = value
        return
    if not isinstance(data, dict):
        raise UserError(f"invalid override '--set {whole}': there is no mapping that could hold '{key}'")
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
