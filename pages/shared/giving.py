"""What a person gives to be asked about: the fields for a text, a picture or a row, and the example it starts from.

Each function draws its fields and returns what they say, or None where nothing is given yet. What is short stands in
the address (`text`, `row`, `edits`), and the address decides what the fields show whenever it is another one than the
fields themselves wrote; what is long, and every upload, is in the memory of the session alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import streamlit as st
from PIL import Image

from attribution.edits import MIRRORS, TURNS, PictureEdits
from attribution.errors import InvalidInput
from attribution.given import Column, read_row
from attribution.uploads import FORMATS, MOST_BYTES, read_picture
from pages.shared import links
from pages.shared.wording import escaped

if TYPE_CHECKING:
    from attribution.debugger import Debugger

MOST_FIELDS = 60  # columns with a field each; more are one field of JSON
_SEEN = "give_seen"  # what the address said when the fields were last filled from it, or wrote it
_PRESSED = "give_pressed"
_SEEN_SIDE = 288  # pixels of an upload as it is shown, at half its size for sharp screens
_MIRROR_WORDS = {"": "As it is", "sides": "Left and right", "upside": "Top and bottom"}


def given(debugger: Debugger, of: str | None) -> Any:
    """What is asked about; None where nothing is given yet. `of` is the example it starts from."""
    start = None if of is None else debugger.given(of)
    return _FIELDS_OF[debugger.modality](debugger, of, start)


def _newly(*said: str | None) -> bool:
    """Whether the address is another one than the fields have seen: then they are filled from it."""
    new = st.session_state.get(_SEEN) != said
    st.session_state[_SEEN] = said
    return new


def _write(name: str, value: str, *seen: str | None) -> None:
    """Put what was typed into the address where it fits; the fields have then seen that address."""
    kept = value if value and links.fits(value) else None
    if seen and seen[0]:
        st.query_params["from"] = seen[0]
    if kept is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = kept
    st.session_state[_SEEN] = (*seen, kept)
    st.session_state[_PRESSED] = True


# ── a text ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def text(debugger: Debugger, of: str | None, start: str | None) -> str | None:
    typed = st.query_params.get("text")
    if _newly(of, typed) or "give_text" not in st.session_state:
        st.session_state["give_text"] = start or "" if typed is None else typed
        st.session_state[_PRESSED] = False
    with st.form("give", border=False):
        st.text_area("Text", key="give_text", height=120, placeholder="Type a text like those of the data")
        st.form_submit_button(
            "Ask", type="primary", key="give_ask", on_click=lambda: _write("text", st.session_state["give_text"], of)
        )
    words: str = st.session_state["give_text"]
    return words if words.strip() or st.session_state[_PRESSED] else None


# ── a picture ────────────────────────────────────────────────────────────────────────────────────────────────────────


def picture(debugger: Debugger, of: str | None, start: Image.Image | None) -> Image.Image | None:
    found = start or _uploaded()
    edits = _edits(opened=start is not None)
    return None if found is None else edits.apply(found)


def _uploaded() -> Image.Image | None:
    """The picture that was uploaded, as a person sees it; raises `InvalidInput` for what is none."""
    file = st.file_uploader(
        f"A picture: {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, at most {MOST_BYTES // 1_000_000} MB",
        ["png", "jpg", "jpeg", "webp", "gif", "bmp"],
        key="give_upload",
        max_upload_size=-(-MOST_BYTES // 2**20),
    )
    if file is None:
        return None
    found = read_picture(file.getvalue())
    shown = found.picture.copy()
    shown.thumbnail((_SEEN_SIDE, _SEEN_SIDE))
    st.image(shown, width=max(shown.width // 2, 64), alt="The picture that was uploaded")
    for remark in found.remarks:
        st.caption(escaped(remark))
    return found.picture


def _edits(*, opened: bool) -> PictureEdits:
    """The fields of every edit, in sight where they are wanted first; the address has them all."""
    edits = PictureEdits.read(st.query_params.get("edits", ""))
    fields = dict(zip(_FIELDS, _flat(edits), strict=True))
    for name, value in fields.items():
        st.session_state[f"edit_{name}"] = value
    with st.expander("Edit it", expanded=opened or bool(edits.written)), st.container(key="two-columns"):
        first = st.columns([3, 3, 3, 2], vertical_alignment="bottom")
        first[0].selectbox("Turn to the left, degrees", TURNS, key="edit_turn", on_change=_edits_to_address)
        first[1].selectbox(
            "Swap", MIRRORS, format_func=_MIRROR_WORDS.__getitem__, key="edit_mirror", on_change=_edits_to_address
        )
        first[2].slider("Brightness, %", 0, 200, step=5, key="edit_brightness", on_change=_edits_to_address)
        first[3].toggle("Negative", key="edit_negative", on_change=_edits_to_address)
        second = st.columns(5)
        second[0].slider("Shift right, %", -50, 50, key="edit_right", on_change=_edits_to_address)
        second[1].slider("Shift down, %", -50, 50, key="edit_down", on_change=_edits_to_address)
        second[2].slider(
            "Erase a square, %",
            0,
            100,
            key="edit_side",
            help="Its side; 0 erases nothing.",
            on_change=_edits_to_address,
        )
        second[3].slider("… from the left, %", 0, 100, key="edit_left", on_change=_edits_to_address)
        second[4].slider("… from the top, %", 0, 100, key="edit_top", on_change=_edits_to_address)
    return edits


_FIELDS = ("turn", "mirror", "right", "down", "left", "top", "side", "brightness", "negative")


def _flat(edits: PictureEdits) -> tuple[Any, ...]:
    turn, mirror, shift, erase, brightness, negative = astuple(edits)
    return turn, mirror, *shift, *erase, brightness, negative


def _edits_to_address() -> None:
    said = {name: st.session_state[f"edit_{name}"] for name in _FIELDS}
    edits = PictureEdits(
        said["turn"],
        said["mirror"],
        (said["right"], said["down"]),
        (said["left"], said["top"], said["side"]),
        said["brightness"],
        said["negative"],
    )
    if edits.written:
        st.query_params["edits"] = edits.written
    else:
        st.query_params.pop("edits", None)


# ── a row ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def row(debugger: Debugger, of: str | None, start: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A row starts from an example always: no other values would be sensible for all columns at once."""
    if start is None:
        return None
    columns, changed = debugger.fields, st.query_params.get("row")
    as_json = len(columns) > MOST_FIELDS
    names = ["give_json"] if as_json else [f"give_{i}" for i in range(len(columns))]
    if _newly(of, changed) or names[0] not in st.session_state:
        values = {**start, **_changes(changed, start)}
        shown = [json.dumps(values, indent=1, ensure_ascii=False)] if as_json else _shown(columns, values)
        st.session_state.update(zip(names, shown, strict=True))
    with st.form("give", border=False):
        if as_json:
            st.text_area("Row, as JSON", key="give_json", height=320)
        else:
            _fields(columns, names)
        st.form_submit_button(
            "Ask", type="primary", key="give_ask",
            on_click=lambda: _write("row", _difference(start, _read(columns, names, start)), of),
        )  # fmt: skip
    return read_row(st.session_state["give_json"]) if as_json else _read(columns, names, start)


def _changes(written: str | None, start: Mapping[str, Any]) -> dict[str, Any]:
    """What the address changes; what it names and is no column, or cannot be read, is passed over."""
    try:
        return {name: value for name, value in read_row(written or "{}").items() if name in start}
    except InvalidInput:
        return {}


def _shown(columns: tuple[Column, ...], values: Mapping[str, Any]) -> list[Any]:
    shown: list[Any] = []
    for column in columns:
        value = values[column.name]
        if column.is_number:
            shown.append(_number(value))
        else:
            shown.append(str(value))
    return shown


def _number(value: Any) -> float | None:
    """A number as its field holds it; None, an empty field, for what is none or has hundreds of digits."""
    try:
        return float(value) if isinstance(value, bool | int | float) else None
    except OverflowError:
        return None


def _fields(columns: tuple[Column, ...], names: list[str]) -> None:
    places = st.container(key="two-columns").columns(4)
    for i, (column, name) in enumerate(zip(columns, names, strict=True)):
        label = escaped(column.name)
        with places[i % 4]:
            if column.is_number:
                st.number_input(label, value=None, format="%g", key=name)
            elif column.choices:
                known = list(dict.fromkeys([*column.choices, str(st.session_state[name])]))
                st.selectbox(label, known, key=name)
            else:
                st.text_input(label, key=name)


def _read(columns: tuple[Column, ...], names: list[str], start: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields say; whole numbers stay whole where the example's are."""
    if names == ["give_json"]:
        try:
            return read_row(st.session_state["give_json"])
        except InvalidInput:  # it is said where it is read to be asked about
            return dict(start)
    found = {}
    for column, name in zip(columns, names, strict=True):
        value = st.session_state[name]
        whole = isinstance(start[column.name], int) and isinstance(value, float) and value.is_integer()
        found[column.name] = int(value) if whole else value
    return found


def _difference(start: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The values that were changed, as JSON; "" where none was."""
    changed = {name: value for name, value in now.items() if value != start.get(name)}
    return json.dumps(changed, ensure_ascii=False) if changed else ""


_FIELDS_OF: Mapping[str, Callable[[Any, str | None, Any], Any]] = {"image": picture, "text": text, "tabular": row}
