"""Everything that a report shows of a run folder, as text, without drawing a figure."""

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser

from secateur.report import page
from secateur.report.aggregate import aggregate
from secateur.report.cards import cards
from secateur.report.formatting import to_csv, to_latex, to_markdown
from secateur.report.load import load
from secateur.report.paired_changes import changes
from secateur.report.summary import summary
from secateur.report.tables import overview_table, paper_table, robust_accuracy

NBSP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Surfaces:
    """The texts of a report; ``rows`` are those of summary.csv, ``robust`` those of robust_accuracy.csv."""

    grid: object
    change: dict
    terminal: tuple[tuple[str, ...], ...]
    heads: tuple[str, ...]
    title: str
    html: str
    page: str
    cards: dict[str, str]
    markdown: str
    latex: str
    rows: list[dict[str, str]]
    robust: list[dict[str, str]]


def show(folder):
    grid = aggregate(load(folder))
    change = changes(grid)
    table, whole, few = overview_table(grid, change), summary(grid, change), paper_table(grid, change)
    html = page.render(grid, change, [], whole, run_folder="run")
    return Surfaces(
        grid=grid,
        change=change,
        terminal=table.rows,
        heads=table.columns,
        title=table.title,
        html=html,
        page=text_of(html),
        cards={name: plain(card) for name, card in cards(grid, change)},
        markdown=plain(to_markdown(few)),
        latex=plain(to_latex(few)),
        rows=csv_rows(whole),
        robust=csv_rows(robust_accuracy(grid)),
    )


def csv_rows(table):
    return list(csv.DictReader(io.StringIO(to_csv(table))))


def plain(text):
    return text.replace(NBSP, " ")


def text_of(html):
    """The words of a page, on one line."""
    text = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", html, flags=re.S)
    return " ".join(unescape(plain(re.sub(r"<[^>]+>", " ", text))).split())


def data_of(html):
    """The data that the control of a page chooses from."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, flags=re.S)
    return json.loads(text)


def only(rows, **wanted):
    (found,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return found


def digest(script):
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags(page):
    parser = Tags()
    parser.feed(page)
    return parser.found


def plain_text(page):
    text = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())
