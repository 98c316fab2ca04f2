"""`python -m benchmarks [name …]`: run the named measurements, or all of them, and record what they found."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

from benchmarks import (
    decisions,
    demo_from_nothing,
    embed_cost,
    ensembles,
    fidelity,
    hospital,
    index_million,
    kernel_and_network,
    lds,
    leave_one_out,
    loop,
    page_time,
    planted_labels,
    query_time,
    questions,
    review_keys,
    reviews,
    scale_of_view,
    suspects,
)
from benchmarks.published import attack, components, first_order, label_fixing, recovery, shipping, smooth_hinge

ALL = {
    "embed_cost": embed_cost.main,
    "fidelity": fidelity.main,
    "query_time": query_time.main,
    "index_million": index_million.main,
    "kernel_and_network": kernel_and_network.main,
    "planted_labels": planted_labels.main,
    "demo_from_nothing": demo_from_nothing.main,
    "page_time": page_time.main,
    "decisions": decisions.main,
    "suspects": suspects.main,
    "review_keys": review_keys.main,
    "scale_of_view": scale_of_view.main,
    "reviews": reviews.main,
    "loop": loop.main,
    "hospital": hospital.main,
    "questions": questions.main,
    "lds": lds.main,
    "ensembles": ensembles.main,
    "leave_one_out": leave_one_out.main,
    "smooth_hinge": smooth_hinge.main,
    "components": components.main,
    "label_fixing": label_fixing.main,
    "attack": attack.main,
    "recovery": recovery.main,
    "first_order": first_order.main,
    "published": shipping.main,
}

for name in sys.argv[1:] or ALL:
    if name not in ALL:
        sys.exit(f"There is no benchmark “{name}”; there are {', '.join(ALL)}.")
    ALL[name]()
