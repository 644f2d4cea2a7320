"""Figures of any kind: text that the font can draw, and files."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from valyrian_jax.errors import UserError
from valyrian_jax.files import is_stream, write_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def escape_missing_glyphs(text: str) -> str:
    """Escape the characters that the font lacks; it would draw the same empty box for all."""
    from matplotlib import font_manager

    glyphs = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return "".join(
        c if ord(c) in glyphs else c.encode("ascii", "backslashreplace").decode() for c in text
    )


def save_figure(
    figure: "Figure",
    path: Path,
    write: Callable[[Path], AbstractContextManager[Path]] = write_output,
) -> list[Path]:
    """Write a figure as PNG and as SVG, and return the paths; this fixes the figure's layout.

    Args:
        figure: Figure.
        path: Path of the files, with or without a suffix .png or .svg; a stream gets one PNG.
        write: Context manager that yields a temporary file; `replace_file` for files that no user
            has named.
    """
    import matplotlib

    files = list_figure_files(path)
    with contextlib.ExitStack() as stack:
        temporaries = [stack.enter_context(write(file)) for file in files]  # both or none
        # Equal figures give equal files.
        stack.enter_context(matplotlib.rc_context({"svg.hashsalt": "valyrian"}))
        for file, temporary in zip(files, temporaries, strict=True):
            _draw_to_file(figure, temporary, file.suffix.lower())
            figure.set_layout_engine("none")  # keep the layout of the first file
    return files


def list_figure_files(path: Path) -> list[Path]:
    """Return the files that `save_figure` writes for a path."""
    if is_stream(path):
        return [path]
    path = path.with_suffix("") if path.suffix.lower() in (".png", ".svg") else path
    if path.name in ("", ".."):
        raise UserError(
            f"cannot write {path}: it is a directory; expected the name of a file in it, without "
            ".png and .svg"
        )
    return [path.with_name(path.name + suffix) for suffix in (".png", ".svg")]


def _draw_to_file(figure: "Figure", path: Path, suffix: str) -> None:
    """Draw a figure once; `Figure.savefig` draws it twice, to crop it, which is not needed here."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    if suffix == ".svg":
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
    else:
        figure.dpi = 150
        FigureCanvasAgg(figure).print_png(path)
