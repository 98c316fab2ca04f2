"""Whence beside other libraries for training-data attribution: one model, one data set, one run.

    make bench-peers                                   both stages: benchmarks/results/peers.json
    make bench-peers ARGS="--examples 600 --queries 20"     a quick look: benchmarks/results/peers_smoke.json
    make bench-peers ARGS="--stages agreement"         the second stage alone; the first one's part of the record stays
    .venv/bin/python -m benchmarks.peers.render        table and plot of the README, from peers.json alone

Two stages: what everything costs on the demo, and who foretells retraining on two small tasks whose banks of retrained
models are those of `python -m benchmarks lds`, made the first time in about fifteen minutes.

    environment.py   the libraries' own environment, on top of ours: the same PyTorch for everybody
    setting.py       what everybody is given: network, checkpoints, training examples, queries; as plain files
    ground.py        the tasks of which it is known what retraining says, as settings of the same kind
    protocol.py      what everybody is asked
    child.py         one library in a fresh process, measured stage by stage
    report.py        costs, fidelity, average precision, and the record
    agreement.py     linear datamodeling scores by the banks of retrained models, in the same record
    table.py, agreement_table.py, plot.py, render.py

One file for each library: whence, captum, trak, kronfluence, dattri, bergson; and plain.py (the plain pass, which is
the unit of cost, and the training loss, which is the ranking to beat) and exact.py (whole gradients by autograd).
"""
