"""Hooks of the documentation site: the README is its first page, and links out of docs/ become pages.

In the repository a page of docs/ may link to ../results or ../studies, and the README links into docs/. On the
site these files stand beside the pages, under their path in the repository.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root, and every file that a page links to outside of docs/."""
    for source, page in PAGES.items():
        text = _relative((ROOT / source).read_text(encoding="utf-8"), ROOT)
        files.append(File.generated(config, page, content=text))
    for page in Path(config.docs_dir).rglob("*.md"):
        for target, _ in LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            outside = path.is_file() and not path.is_relative_to(config.docs_dir)
            name = str(path.relative_to(ROOT)) if outside else ""
            if outside and name not in PAGES and files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page, config: MkDocsConfig, files: Files) -> str:  # noqa: ANN001
    """Links that leave docs/ lead to the copies on the site."""
    if page.file.src_uri in PAGES.values() or page.file.src_uri.startswith("results/"):
        return markdown
    return markdown.replace("](../", "](")


def _relative(text: str, folder: Path) -> str:
    """A page of the root as a page of docs/: files that are not on the site are named, not linked."""

    def link(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        inside = target.removeprefix("docs/")
        if target in PAGES:
            return f"]({PAGES[target]}{anchor})"
        return f"]({inside}{anchor})" if target.startswith("docs/") else "]"

    return LINK.sub(link, text)
