"""Run the Python of docs/tutorial.md, put what it prints below each block, and write the notebook.

    python benchmarks/tutorial.py          # some minutes; changes docs/tutorial.md and examples/tutorial.ipynb
"""

import contextlib
import io
import json
import os
import re
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE, NOTEBOOK = ROOT / "docs" / "tutorial.md", ROOT / "examples" / "tutorial.ipynb"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", flags=re.M | re.S)


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        printed = run([code for code, _ in BLOCK.findall(text)])
    outputs = iter(printed)
    text = BLOCK.sub(lambda found: shown(found[1], next(outputs)), text)
    PAGE.write_text(text, encoding="utf-8")
    NOTEBOOK.write_text(json.dumps(notebook(text), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def run(blocks: list[str]) -> list[str]:
    """What every block prints, run one after the other in one namespace and in the working directory."""
    names: dict[str, object] = {"__name__": "tutorial"}
    printed = []
    for block in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block, "tutorial", "exec"), names)
        printed.append(out.getvalue())
    return printed


def shown(code: str, printed: str) -> str:
    """A block of the page, with its output if there is any."""
    return f"```python\n{code}```\n" + (f"\n```text\n{printed}```\n" if printed else "")


def notebook(text: str) -> dict[str, object]:
    """The page as a notebook: text and code in the order of the page, with outputs."""
    cells, end = [], 0
    for found in BLOCK.finditer(text):
        cells += prose(text[end : found.start()], len(cells))
        output = [{"name": "stdout", "output_type": "stream", "text": lines(found[2])}] if found[2] else []
        cells.append(
            {
                "cell_type": "code",
                "execution_count": None,
                "id": f"cell-{len(cells)}",
                "metadata": {},
                "outputs": output,
                "source": lines(found[1].rstrip("\n")),
            }
        )
        end = found.end()
    cells += prose(text[end:], len(cells))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def prose(text: str, number: int) -> list[dict[str, object]]:
    text = re.sub(r"\]\((?!https?:|\.\./|#)([^)]+\.md[^)]*)\)", r"](../docs/\1)", text.strip())
    cell = {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": lines(text)}
    return [cell] if text else []


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
