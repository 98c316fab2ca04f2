"""The choice of method: what the address may name, the pills, and what is said where only TracIn can show something."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypedDict

import streamlit as st

from pages.shared.choices import choice
from pages.shared.evidence_columns import Choice

if TYPE_CHECKING:
    from attribution.debugger import Debugger

DEFAULT = "tracin"


class Pills(TypedDict):
    """Rows: the methods, and the layers that the chosen one may sum over or the forms that it has, if any. named:
    whether the address names a method; they are folded where it does not."""

    methods: list[Choice]
    layers: list[Choice]
    forms: list[Choice]
    named: bool


def asked(debugger: Debugger, given: str | None) -> str:
    """The method of an address; what is not offered is the default."""
    return given if given is not None and given in debugger.method_choices else DEFAULT


def pills(debugger: Debugger, method: str, link: Callable[[str], str]) -> Pills:
    """link: the address of the same question by another method."""
    chosen, layers = method.partition(":")[0], debugger.layer_choices
    return {
        "methods": [choice(debugger.method_choices[m], link(m), m == chosen) for m in debugger.method_names],
        "layers": [choice(of, link(m), m == method) for m, of in layers.items() if method in layers],
        "forms": [
            choice(of, link(m), m == method) for m, of in debugger.form_choices.items() if m.partition(":")[0] == chosen
        ],
        "named": "m" in st.query_params,
    }


def preparing(debugger: Debugger, method: str) -> AbstractContextManager[None]:
    """Says what the first question to a method waits for."""
    if debugger.is_ready(method):
        return nullcontext()
    return st.spinner(f"Computing what {debugger.method_choices[method]} needs of all training examples, once")


def split_by(debugger: Debugger, method: str) -> str:
    """The method whose influence is split by layer, pixel and word: this one where it is such a sum, else TracIn."""
    return method if debugger.splits(method) else DEFAULT


def why_split_by(debugger: Debugger, method: str) -> str:
    """Why the parts that are shown are not the method's own; "" where they are."""
    if debugger.splits(method):
        return ""
    chosen, default = debugger.method_choices[method], debugger.method_choices[DEFAULT]
    return f"What {chosen} gives, by which the lists are ranked, cannot be split, so the parts are {default}’s."
