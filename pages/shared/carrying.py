"""What was decided on Review and is still on its way when somebody leaves for another page is carried on there.

Streamlit makes one run of a message and of the change of page that follows it at once, and forgets the first. So a
session that has been on a page with an outbox gets it on every other page too; it has no face, and costs a session that
never decides nothing.
"""

from __future__ import annotations

from attribution.errors import AttributionError
from pages.shared import audits, outbox, recorded, state

_OF_THEIR_OWN = ("evidence", "review", "decisions")


def carry(page: str) -> None:
    """Called when a page is drawn."""
    if page in _OF_THEIR_OWN or not outbox.is_used():
        return
    try:
        debugger = state.opened()
        kept = recorded.opened(debugger)
    except AttributionError:  # drawn by the page; the browser keeps what it has
        return
    why = audits.why_of(debugger, audits.audit_or_none(debugger), sort="")
    database = outbox.database_name(kept, debugger.data_hash)
    outbox.channel(kept, (debugger.train, debugger.test), why, database=database)
