"""Odd changes to plain data and to bytes, drawn from a seed."""

import copy
import json
import random

from secateur.hashing import digest


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


ODD = [
    *(None, True, False, 0, -1, 2, 0.5, -0.5, 1e308, -1e308, 5e-324, 2**31, 2**63, -(2**63), 10**400),
    *("", "a", "0", "inf", "-inf", "nan", "a" * 5000, "../../../up", "/etc/passwd", "a\x00b", "\x1b[2J\x07"),
    *("\u202eabc", "a\nb", "=1+1", "<script>x</script>", "{{ 7 }}", "$\\frac{$", "\\input{x}", "é" * 9),
    *([], {}, [None], [[]], [1, "a"], {"": None}, {"a": {"b": {}}}, nested(20), nested(70), [0] * 3),
]


def places(value, path=()):
    """The paths to everything inside plain data."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from places(value[index], (*path, index))


def changed(data, draw: random.Random, times=1):
    """A copy of plain data with values replaced, removed, doubled or renamed."""
    data = copy.deepcopy(data)
    for _ in range(times):
        # A short path is as likely as a long one, of which there are many more.
        by_depth = {}
        for path in places(data):
            if path:
                by_depth.setdefault(len(path), []).append(path)
        if not by_depth:
            return data
        path = draw.choice(by_depth[draw.choice(list(by_depth))])
        inside = data
        for step in path[:-1]:
            inside = inside[step]
        _change(inside, path[-1], draw)
    return data


def _change(inside, step, draw):
    kind = draw.choice(["replace", "replace", "replace", "remove", "double", "swap"])
    if kind == "remove":
        del inside[step]
    elif kind == "double" and isinstance(inside, list):
        inside.insert(step, inside[step])
    elif kind == "double":
        inside[f"{step}2"] = inside[step]
    elif kind == "swap":
        other = draw.choice(list(inside if isinstance(inside, dict) else range(len(inside))))
        inside[step], inside[other] = inside[other], inside[step]
    else:
        inside[step] = copy.deepcopy(draw.choice(ODD))


def sealed(data):
    """``data`` with the seal that a stranger would compute; without one where that is impossible."""
    if not isinstance(data, dict):
        return data
    body = {key: value for key, value in data.items() if key != "self_hash"}
    try:
        return {**body, "self_hash": digest(body)}
    except (ValueError, RecursionError):
        return body


def written(data):
    return json.dumps(data).encode()


def damaged(raw: bytes, draw: random.Random):
    """Bytes with some changed, removed, repeated or set to extremes."""
    raw = bytearray(raw)
    for _ in range(draw.choice([1, 1, 2, 8])):
        if not raw:
            break
        at, kind = draw.randrange(len(raw)), draw.choice("bbcxzr")
        if kind == "b":
            raw[at] ^= 1 << draw.randrange(8)
        elif kind == "c":
            del raw[at:]
        elif kind == "x":
            size = draw.choice([1, 2, 4, 8])
            raw[at : at + size] = draw.choice([b"\xff", b"\x7f", b"\x00"]) * size
        elif kind == "z":
            raw[at:at] = raw[at : at + draw.randrange(64)]
        else:
            del raw[at : at + draw.randrange(16)]
    return bytes(raw)
