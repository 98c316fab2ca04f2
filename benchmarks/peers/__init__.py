"""Whence beside other libraries for training-data attribution: one model, one data set, one run.

    make bench-peers                                   the whole demo, 100 queries: benchmarks/results/peers.json
    make bench-peers ARGS="--examples 600 --queries 20"     a quick look: benchmarks/results/peers_smoke.json
    .venv/bin/python -m benchmarks.peers.render        table and plot of the README, from peers.json alone

    environment.py   the libraries' own environment, on top of ours: the same PyTorch for everybody
    setting.py       what everybody is given: network, checkpoints, training examples, queries; as plain files
    protocol.py      what everybody is asked
    child.py         one library in a fresh process, measured stage by stage
    report.py        fidelity, average precision, and the record
    table.py, plot.py, render.py

One file for each library: whence, captum, trak, kronfluence, dattri, bergson; and plain.py (the plain pass, which is
the unit of cost, and the training loss, which is the ranking to beat) and exact.py (whole gradients by autograd).
"""
