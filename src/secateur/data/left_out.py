"""What a folder of images holds beside the images that are read: said, never silently dropped."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from secateur.text import counted

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
"""Endings of the files that are read as images."""
OTHERS = {
    *(".apng", ".avif", ".cr2", ".dcm", ".dds", ".dng", ".exr", ".hdr", ".heic", ".heif", ".ico", ".jfif"),
    *(".jp2", ".jpe", ".jxl", ".nef", ".pbm", ".pcx", ".pnm", ".psd", ".svg", ".tga", ".xpm"),
}
"""Endings of other pictures."""
_BEGINS = re.compile(
    rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP|P[1-6]\s+\d+\s+\d+\s", re.DOTALL
)


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its name or by its first bytes; hidden files are none.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     _ = (Path(root) / "photo").write_bytes(b"GIF89a...")
    ...     _ = (Path(root) / "labels.txt").write_bytes(b"cat")
    ...     is_picture(Path(root) / "photo"), is_picture(Path(root) / "labels.txt")
    (True, False)
    """
    if path.name.startswith(".") or path.is_dir():
        return False
    if path.suffix.lower() in SUFFIXES | OTHERS:
        return True
    # Neither a pipe nor a device is opened, which could block.
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return _BEGINS.match(file.read(64)) is not None
    return False


def loose(places: Iterable[Path], root: Path) -> tuple[str, ...]:
    """One sentence about pictures in the folders ``places`` themselves, beside their sub-folders.

    Args:
        places: folders whose sub-folders are classes, or splits.
        root: what their names are told relative to.
    """
    found = [path for place in places for path in sorted(place.iterdir()) if is_picture(path)]
    if not found:
        return ()
    lie, they = ("lies", "it is") if len(found) == 1 else ("lie", "they are")
    return (
        f"{counted(len(found), 'picture')} {lie} beside the class folders of '{root}', such as "
        f"'{found[0].relative_to(root)}': without a class, {they} left out",
    )


def unread(places: Iterable[Path], root: Path) -> tuple[str, ...]:
    """One sentence about pictures in class folders that are not read because of their names."""
    found = [
        path
        for place in places
        for path in sorted(place.iterdir())
        if path.suffix.lower() not in SUFFIXES and is_picture(path)
    ]
    if not found:
        return ()
    are = "is" if len(found) == 1 else "are"
    return (
        f"{counted(len(found), 'picture')} in the class folders of '{root}' {are} left out, such as "
        f"'{found[0].relative_to(root)}': only {', '.join(sorted(SUFFIXES))} are read",
    )
