"""What long work will take, in the one sentence that is said before it begins, by the command line and by the pages.

    Effort(("training from scratch", "trainings from scratch"), count=34, left=34, seconds=240.0).sentence
    # 34 trainings from scratch, about 4 min by what the run itself took.

It is of what is left: what is kept costs nothing, and where nothing is left the sentence says that.
"""

from __future__ import annotations

from dataclasses import dataclass

from attribution.wording import counted, duration, size


@dataclass(frozen=True)
class Effort:
    """of       what is made, one and many, in words; `count` of them in all, of which `left` are not there yet.
    seconds  of those that are left, by what the run itself took; None where that is not known.
    n_bytes  of disk, where it is worth a word.
    trains   False where nothing is trained: then it is seconds to minutes, unless `seconds` says.
    is_most  whether some of what is left may turn out to be there, which only the work itself finds out.
    """

    of: tuple[str, str]
    count: int
    left: int
    seconds: float | None = None
    n_bytes: int = 0
    trains: bool = True
    is_most: bool = False

    @property
    def sentence(self) -> str:
        if not self.left:
            return "All of it is kept: nothing is left to do."
        what = counted(self.count, *self.of)
        if self.left < self.count:
            what = f"{self.left:,} of {what} {'is' if self.left == 1 else 'are'} left"
        return "; ".join([", ".join([what, *self._takes]), *self._further]) + "."

    @property
    def _takes(self) -> list[str]:
        """Time and disk, as far as they are known."""
        known = [] if self.seconds is None else [f"about {duration(self.seconds)}"]
        known += [f"{size(self.n_bytes)} of disk"] if self.n_bytes else []
        if not self.trains:
            return [" and ".join(known or ["seconds to minutes"])]
        by = " by what the run itself took" if self.seconds is not None else ""
        return [" and ".join(known) + by] if known else []

    @property
    def _further(self) -> list[str]:
        if not self.trains:
            return ["nothing is trained"]
        unknown = ["how long is not known, as the model was trained elsewhere"] if self.seconds is None else []
        return [*unknown, *(["those that were made before are not made again"] if self.is_most else [])]
