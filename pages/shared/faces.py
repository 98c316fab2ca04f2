"""What a person sees of an example, as the components of evidence take it: a picture, a text, or a row."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from pages.shared import state, wording

if TYPE_CHECKING:
    from attribution.debugger import Debugger
    from attribution.examples import Preview


def face(debugger: Debugger, id: str) -> dict[str, Any]:
    """{"src": …}, {"text": …} or {"row": [[name, value], …]} of an example, and the "note" that is known beside it."""
    said = debugger.note(id)
    src = state.preview_src(debugger, id)  # remembered: pictures are encoded once
    return ({"src": src} if src else face_of(debugger.preview(id))) | ({"note": said} if said else {})


def face_of(preview: Preview) -> dict[str, Any]:
    """The same of a preview, which may be of something that is in no data set."""
    if preview.kind == "image":
        return {"src": f"data:{preview.mime};base64,{base64.b64encode(preview.image).decode()}"}
    if preview.row:
        return {"row": [[name, str(value)] for name, value in preview.row.items()]}
    return {"text": wording.shortened(preview.text)}
