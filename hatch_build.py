"""The README as a package index shows it: links to files of the repository lead nowhere there.

Where ``[project.urls]`` has a ``Source``, such links and pictures point into it. Where it has none, because
the repository has no public address yet, the words of a link stay, and a picture is left out.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(?P<picture>!?)\[(?P<words>[^\]]*)\]\((?!https?://|#|mailto:)(?P<path>[^)\s]+)\)")
# Code is shown as it is.
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.M | re.S)


def for_an_index(text: str, source: str | None) -> str:
    """``text`` with every link that is relative to the repository made absolute, or made plain words."""
    made, place = [], 0
    for code in CODE.finditer(text):
        made += [LINK.sub(lambda link: _link(link, source), text[place : code.start()]), code.group()]
        place = code.end()
    return "".join([*made, LINK.sub(lambda link: _link(link, source), text[place:])])


def _link(link: re.Match[str], source: str | None) -> str:
    if source is None:
        return "" if link["picture"] else link["words"]
    view = "raw" if link["picture"] else "blob"
    return f"{link['picture']}[{link['words']}]({source.rstrip('/')}/{view}/main/{link['path']})"


class ReadmeHook(MetadataHookInterface):
    """Sets the readme of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in ``readme``."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_an_index(text, source)}
