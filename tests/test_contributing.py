"""The map of CONTRIBUTING.md is that of the code."""

import ast
import re

import pytest

from test_layers import LEVEL, NO_TORCH, SRC


def map_of_the_code():
    """The table of CONTRIBUTING.md: level, package without its mark, whether it is marked, where to start."""
    lines = (SRC.parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| \d", line)
    ]
    return [(int(row[0]), row[1].split("`")[1], "°" in row[1], row[3].strip("`")) for row in rows]


def test_the_map_of_contributing_is_that_of_the_code():
    mapped = sorted((level, room) for level, room, _, _ in map_of_the_code())
    assert mapped == sorted((level, room) for room, level in LEVEL.items() if room != "__main__")
    assert {room for _, room, marked, _ in map_of_the_code() if marked} == NO_TORCH


@pytest.mark.parametrize(("room", "start"), [(room, start) for _, room, _, start in map_of_the_code()])
def test_the_map_names_a_place_to_start(room, start):
    if "/" in start:
        assert (SRC / start).is_file()
    else:
        names = [
            node.name
            for node in ast.walk(ast.parse((SRC / f"{room}.py").read_text()))
            if hasattr(node, "name")
        ]
        assert start in names
