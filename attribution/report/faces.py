"""What a person sees of an example in a report: a small picture as data, a short text, or some columns of a row."""

from __future__ import annotations

import base64
import io

from PIL import Image

from attribution.debugger import Debugger
from attribution.examples import Preview
from attribution.report.markup import Element, el, said

SIDE = 96  # pixels of the longer side that are kept
_CHARACTERS = 280
_COLUMNS = 6


def face(debugger: Debugger, id_: str, alt: str, *, cls: str = "") -> Element:
    """An example as it is shown; `cls` "large" or "little" is the size of a picture."""
    shown = debugger.preview(id_)
    if shown.kind == "image":
        return el("img", src=small_picture(shown), alt=alt, cls=cls)
    if shown.kind == "text":
        return el("span", said(shown.text, longest=_CHARACTERS), cls="words")
    columns = list((shown.row or {}).items())
    lines = [f"{name} = {value}" for name, value in columns[:_COLUMNS]]
    left = len(columns) - len(lines)
    return el("span", said("\n".join(lines)), f"\nand {left:,} more" if left else "", cls="words")


def small_picture(shown: Preview) -> str:
    """A picture of at most `SIDE` pixels as a data URL, lossless where that is no larger."""
    picture: Image.Image = Image.open(io.BytesIO(shown.image))
    picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    picture.thumbnail((SIDE, SIDE))
    written = {}
    for kind in ("png", "jpeg"):
        file = io.BytesIO()
        picture.save(file, format=kind, optimize=True)
        written[kind] = file.getvalue()
    kind = "png" if len(written["png"]) <= len(written["jpeg"]) else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(written[kind]).decode()}"
