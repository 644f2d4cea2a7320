"""Figures of any kind: text that the font can draw, and files."""

from pathlib import Path
from typing import TYPE_CHECKING

from valyrian_jax.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def escape_missing_glyphs(text: str) -> str:
    """Escape the characters that the font lacks; it would draw the same empty box for all."""
    from matplotlib import font_manager

    glyphs = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return "".join(
        c if ord(c) in glyphs else c.encode("ascii", "backslashreplace").decode() for c in text
    )


def save_figure(figure: "Figure", path: Path) -> list[Path]:
    """Write a figure as PNG and as SVG.

    Args:
        figure: Figure to write; its layout is fixed afterwards.
        path: Path of both files, with or without a suffix .png or .svg.

    Returns:
        The paths of the two files.

    Raises:
        UserError: The path is a directory.
        OSError: A file cannot be written.
    """
    import matplotlib

    path = path.with_suffix("") if path.suffix.lower() in (".png", ".svg") else path
    if path.name in ("", ".."):
        raise UserError(
            f"cannot write {path}: it is a directory; expected the name of a file in it, without "
            ".png and .svg"
        )
    files = [path.with_name(path.name + suffix) for suffix in (".png", ".svg")]
    with matplotlib.rc_context({"svg.hashsalt": "valyrian"}):  # equal figures give equal files
        figure.savefig(files[0], dpi=150)
        figure.set_layout_engine("none")  # keep the layout of the first file
        figure.savefig(files[1], metadata={"Date": None})
    return files
