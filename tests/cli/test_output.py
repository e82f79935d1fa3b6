"""What files say is printed without what it could do to a terminal."""

import json

import pytest

from secateur.cli.output import complain, note, print_json, print_table, say
from secateur.errors import UserError

ODD = "a\x1b]0;owned\x07b\x9b2Jc\u202ed\x00"
SPELLED = "a\\x1b]0;owned\\x07b\\x9b2Jc\\u202ed\\x00"


@pytest.mark.parametrize(
    "write",
    [
        say,
        note,
        lambda text: complain(UserError(text, hint="none")),
        lambda text: complain(UserError("it failed", hint=text)),
        lambda text: print_table(text, ("name",), [("x",)]),
        lambda text: print_table("table", (text,), [("x",)]),
        lambda text: print_table("table", ("name",), [(text,)]),
    ],
)
def test_control_characters_are_spelled_out(capsys, write):
    write(f"{ODD}\ud800")
    said = capsys.readouterr()
    assert f"{SPELLED}\\ud800" in said.out + said.err
    assert not set(ODD[1]) & set(said.out + said.err)


@pytest.mark.parametrize(
    "write",
    [
        note,
        lambda text: complain(UserError(text, hint=text)),
        lambda text: print_table(text, (text,), [(text,)]),
    ],
)
def test_a_word_between_colons_is_no_picture(capsys, write):
    write("--data idx:cat:x")
    said = capsys.readouterr()
    assert "idx:cat:x" in said.out + said.err
    assert "🐱" not in said.out + said.err


def test_json_says_the_same_without_them(capsys):
    print_json({"name": ODD, "accent": "é"})
    said = capsys.readouterr().out
    assert json.loads(said) == {"name": ODD, "accent": "é"}
    assert said.rstrip("\n").isprintable()


def test_a_name_with_a_line_end_is_no_line_of_a_table(capsys):
    print_table("t", ("name", "state"), [("a\nb failed", "ok")])
    assert "a\\nb failed" in capsys.readouterr().out


def test_what_code_of_users_prints_is_not_in_the_json(secateur, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\nprint('loading')\n\n"
        "class Net(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        print(x.shape)\n"
        "        return super().forward(x)\n\n"
        "def net():\n    return Net(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    said = secateur("evaluate", "--model", f"{tmp_path}/net.py:net", "--data", "digits:split", "--json")
    assert said.code == 0
    assert len(said.out.splitlines()) == 1
    assert said.json["n"] == 540
    assert "loading" in said.err
    assert "torch.Size" in said.err
