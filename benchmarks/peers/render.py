"""`python -m benchmarks.peers.render`: the README's tables and plots from `benchmarks/results/peers.json`.

Nothing in them is written by hand, and only a run at the sizes of the whole demo is ever drawn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.peers import agreement_table
from benchmarks.peers.environment import ROOT
from benchmarks.peers.plot import agreement_svg, svg
from benchmarks.peers.table import markdown

RECORD = ROOT / "benchmarks" / "results" / "peers.json"
BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
_PLOT, _AGREEMENT_PLOT = "assets/peers.svg", "assets/peers-agreement.svg"


def main() -> None:
    if not RECORD.exists():
        sys.exit("There is no recorded run yet: `make bench-peers` makes one.")
    result = json.loads(RECORD.read_text())
    if result["run"] != "full":
        sys.exit(f"The run in {RECORD.name} is {result['run']}.")
    (ROOT / _PLOT).write_text(svg(result))
    if "agreement" in result:
        (ROOT / _AGREEMENT_PLOT).write_text(agreement_svg(result["agreement"]))
    readme = ROOT / "README.md"
    readme.write_text(between_markers(readme.read_text(), section(result)))


def section(result: Mapping[str, Any]) -> str:
    """What stands between the markers; who foretells retraining where that was measured too."""
    text = f"![Side by side]({_PLOT})\n\n{markdown(result)}"
    if "agreement" not in result:
        return text
    return f"{text}\n![Who foretells retraining]({_AGREEMENT_PLOT})\n\n{agreement_table.markdown(result['agreement'])}"


def between_markers(text: str, new: str) -> str:
    """`text` with everything between the two markers replaced; raises `ValueError` unless each is there once."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"README.md should have {BEGIN} and after it {END}, each once.")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{new}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    main()
