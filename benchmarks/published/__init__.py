"""Published results, made again on data that is shipped: an experiment a file, each with its record in `results/`.

What of the records the app draws stands in `assets/published/`; `shipping` puts it there. What the papers report, and
what differs here, is `attribution/published.py`.
"""
