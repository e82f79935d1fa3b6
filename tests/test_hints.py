"""A sentence names what its reader can change: arguments in Python, options on the command line."""

import ast
import pickle
import re
from pathlib import Path

import pytest

from secateur import data
from secateur.cli.output import complain
from secateur.errors import ExitCode, UserError

SRC = Path(__file__).parent.parent / "src" / "secateur"
# Rooms that only the command line calls, and overrides of a study file, which only it reads.
OF_THE_COMMAND_LINE = {"cli", "__main__.py", "config"}
OPTION = re.compile(r"(?<![-\w])--[a-z]")
COMMAND = re.compile(r"`secateur [^`]*`|secateur [a-z]+ --[a-z-]+")


def texts_of(call):
    """What an error says to callers from Python: the text of every argument but ``command``."""
    parts = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg != "command")]
    strings = (node.value for part in parts for node in ast.walk(part) if isinstance(node, ast.Constant))
    return "".join(text for text in strings if isinstance(text, str))


def options_in(source):
    """The lines of errors that name an option to whoever calls from Python; a whole command is none."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    errors = [call for call in calls if getattr(call.func, "id", "").endswith(("UserError", "DamagedStudy"))]
    return [call.lineno for call in errors if OPTION.search(COMMAND.sub("", texts_of(call)))]


FILES = [
    path for path in sorted(SRC.rglob("*.py")) if path.relative_to(SRC).parts[0] not in OF_THE_COMMAND_LINE
]


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_no_error_below_the_command_line_names_an_option_to_python(path):
    assert options_in(path.read_text(encoding="utf-8")) == []


def test_an_error_that_names_an_option_is_caught():
    assert options_in('raise UserError("two sizes", hint=f"scale them: --resize {side}")') == [1]
    assert options_in('raise UserError("no", hint="resize=8", command="--resize 8")') == []
    assert options_in('raise UserError("no", hint="`secateur report RUN --again` measures afresh")') == []


def test_the_command_line_prints_its_own_hint(capsys):
    error = UserError("two sizes", hint="resize=8", command="--resize 8", code=ExitCode.ENVIRONMENT)
    assert str(error) == "two sizes (resize=8)"
    complain(pickle.loads(pickle.dumps(error)))
    assert capsys.readouterr().err.split() == ["error:", "two", "sizes", "hint:", "--resize", "8"]
    assert UserError("no", hint="anything").command == "anything"


def test_a_folder_of_two_sizes_names_the_argument_and_the_option(tmp_path):
    from PIL import Image

    for name, side in (("a", 8), ("b", 9)):
        (tmp_path / name).mkdir()
        Image.new("L", (side, side)).save(tmp_path / name / "1.png")
    with pytest.raises(UserError) as caught:
        data.load(f"folder:{tmp_path}")
    assert "resize=8" in str(caught.value)
    assert "--resize" not in str(caught.value)
    assert "--resize 8" in caught.value.command
