import dataclasses
import errno
import io
import json
import sys
from types import SimpleNamespace

import pytest

from secateur.engine import Event
from secateur.progress import bar, sentence, show
from toy.study import run_toy, small_plan

CELL = small_plan().cells[0]
EVENTS = [
    Event("begin", total=8, sentence="0 of 8 cells are done"),
    Event("start", CELL, total=8),
    Event("tick", CELL, done=1, total=4),
    Event("ok", CELL, done=1, total=8, seconds=3.0, eta=75.0),
    Event("failed", CELL, done=2, total=8, sentence="it [b]broke"),
    Event("skipped", CELL, done=3, total=8, sentence="its parent failed"),
    Event("stopping", sentence="stopping"),
    Event("end", done=8, total=8, seconds=9.0, sentence="7 of 8 cells are done, 1 failed"),
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(mode, stream=None):
    stream = stream or io.StringIO()
    with show(mode, stream=stream) as listener:
        for event in EVENTS:
            listener(event)
    return stream.getvalue()


def test_plain_lines_tell_what_matters():
    assert shown("plain").splitlines() == [
        "0 of 8 cells are done",
        "0 of 8 cells (train plain/0: 25 %)",
        "failed train plain/0: it [b]broke",
        "skipped train plain/0: its parent failed",
        "stopping",
        "7 of 8 cells are done, 1 failed",
    ]


def test_plain_lines_come_only_every_few_seconds():
    stream = io.StringIO()
    with show("plain", stream=stream) as listener:
        for done in range(100):
            listener(Event("ok", CELL, done=done, total=100, seconds=0.01))
    assert len(stream.getvalue().splitlines()) == 1


def test_a_finished_cell_says_how_long_it_took_and_how_long_the_rest_will_take():
    stream = io.StringIO()
    with show("plain", stream=stream) as listener:
        listener(EVENTS[3])
    assert stream.getvalue() == "1 of 8 cells, 1 min 15 s left (ok train plain/0 in 3 s)\n"


def test_json_lines_tell_the_steps_of_a_cell_once_a_second():
    stream = io.StringIO()
    with show("json", stream=stream) as listener:
        for done in range(100):
            listener(Event("tick", CELL, done=done, total=100))
        listener(EVENTS[3])
    assert len(stream.getvalue().splitlines()) == 2


def test_json_lines_are_one_object_per_event():
    lines = [json.loads(line) for line in shown("json").splitlines()]
    assert [line["event"] for line in lines] == [event.kind for event in EVENTS]
    assert lines[2] == {
        "event": "tick",
        "cell": {"id": CELL.id, "stage": "train", "label": "train plain/0"},
        "done": 1,
        "total": 4,
    }


def test_none_is_silent():
    assert shown("none") == ""


def test_auto_is_plain_unless_the_stream_is_a_terminal():
    assert shown("auto") == shown("plain")
    assert "cells" in shown("auto", Terminal())
    assert shown("auto", Terminal()) != shown("plain")


def test_the_live_bar_counts_cells_and_shows_markup_as_it_is():
    text = shown("rich", Terminal())
    assert "it [b]broke" in text
    assert "8/8 cells" in text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["rich", "plain", "json", "none"])
def test_every_mode_survives_a_whole_run(tmp_path, mode):
    stream = Terminal()
    with show(mode, stream=stream) as listener:
        assert run_toy(tmp_path / "run", on_event=listener).exit_code == 0
    if mode == "json":
        assert json.loads(stream.getvalue().splitlines()[-1])["done"] == 8


def test_events_become_sentences():
    assert (
        sentence(Event("retry", CELL, sentence="its worker died")) == "retry train plain/0: its worker died"
    )
    assert sentence(Event("note", sentence="hello")) == "hello"


ODD = dataclasses.replace(CELL, axes={**CELL.axes, "model": "[red]a\x1b[2J\nok b[/]"})


@pytest.mark.parametrize("mode", ["plain", "json", "rich"])
def test_names_and_messages_from_files_do_nothing_to_a_terminal(mode):
    stream = Terminal() if mode == "rich" else io.StringIO()
    with show(mode, stream=stream) as listener:
        listener(Event("start", ODD, total=2))
        listener(Event("tick", ODD, done=1, total=4))
        listener(Event("failed", ODD, done=1, total=2, sentence="it\x1b]0;owned\x07broke"))
    said = stream.getvalue()
    assert "\x1b[2J" not in said
    assert "\x07" not in said
    assert "it\\x1b]0;owned\\x07broke" in said or "it\\u001b]0;owned\\u0007broke" in said
    assert "[red]a" in said


class Closed(Terminal):
    """A terminal that is closed after the first words."""

    def __init__(self, error):
        super().__init__()
        self.error, self.refused = error, 0

    def write(self, text):
        if self.tell() > 20:
            self.refused += 1
            raise self.error
        return super().write(text)

    def flush(self):
        if self.tell() > 20:
            raise self.error


@pytest.mark.parametrize("mode", ["plain", "rich", "json"])
def test_a_run_outlives_its_terminal(mode):
    stream = Closed(OSError(errno.EIO, "Input/output error"))
    with show(mode, stream=stream) as listener:
        for event in EVENTS:
            listener(event)
    assert stream.refused <= 1


def test_a_pipe_whose_reader_has_gone_still_ends_the_program():
    with pytest.raises(BrokenPipeError):
        shown("plain", Closed(BrokenPipeError()))


def told(stream, **settings):
    with bar("attack", stream=stream, **settings) as tell:
        tell("dense linf", 10, 40)
        tell("dense linf", 11, 40)
        tell("pruned [b]linf", 30, 40)
        tell(40, 40)
    return stream.getvalue() if stream is not None else ""


def test_a_bar_is_a_line_for_every_part_where_there_is_no_terminal():
    assert told(io.StringIO()) == "dense linf (25 % done)\npruned [b]linf (75 % done)\nattack (100 % done)\n"
    assert told(io.StringIO(), quiet=True) == ""


def test_a_long_part_is_told_of_at_every_tenth_of_the_whole():
    stream = io.StringIO()
    with bar("attack", stream=stream) as tell:
        for done in range(0, 1001, 5):
            tell(done, 1000)
    assert stream.getvalue() == "".join(f"attack ({percent} % done)\n" for percent in range(0, 101, 10))


def test_a_bar_on_a_terminal_shows_the_part_and_leaves_nothing(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    text = told(Terminal())
    assert "pruned [b]linf" in text or "attack" in text
    assert "% done" not in text


def test_a_bar_in_a_notebook_writes_its_cell_anew(monkeypatch, capsys):
    drawn = []
    handle = SimpleNamespace(update=drawn.append)
    cells = SimpleNamespace(HTML=str, display=lambda first, display_id: drawn.append(first) or handle)
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", cells)
    monkeypatch.setattr("secateur.progress.time.monotonic", iter(range(100)).__next__)
    with bar() as tell:
        tell("dense <linf>", 10, 40)
        tell("dense <linf>", 40, 40)
    assert drawn == [
        "starting",
        '<progress value="10" max="40"></progress> dense &lt;linf&gt;, 3 s left',
        '<progress value="40" max="40"></progress> dense &lt;linf&gt;',
    ]
    assert capsys.readouterr().err == ""
