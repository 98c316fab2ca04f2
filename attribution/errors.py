"""What goes wrong, and what the reader can do about it.

    AttributionError                message (what was expected, what was found) + hint (what to do)
    ├── InvalidInput                the user's file, option, id or data is not usable as it is
    ├── Missing                     a step has not been done yet; the hint is the command that does it
    ├── Unsuited                    the method or option does not fit this model (a method's `why_not`)
    ├── StoreError                  something on disk is stale, of a newer format, or cannot be written
    │   └── Damaged                 … is not what was written there; making it again mends it
    └── Cancelled                   somebody asked a long step to stop; finished blocks are kept

Everything a user can cause is one of these; the command line prints it as one sentence and exits with 2, a page
draws it. Any other exception is a bug.
"""

from __future__ import annotations


class AttributionError(Exception):
    """One sentence about what was expected and found, and one about what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidInput(AttributionError):
    """The user's file, option, id or data is not usable as it is."""


class Missing(AttributionError):
    """A step this one builds on has not been done; the hint names the command that does it."""


class Unsuited(AttributionError):
    """The method or option does not fit this model."""


class StoreError(AttributionError):
    """Something on disk is damaged, stale, of a newer format, or cannot be written."""


class Damaged(StoreError):
    """Something on disk is not what was written there; making it again mends it."""


class Cancelled(AttributionError):
    """Somebody asked a long step to stop. What was finished is kept and the next start goes on from there."""
