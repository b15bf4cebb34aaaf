"""``make bench``: us, the peers and the bare kernel, interleaved in one run.

``catalogue`` says what is measured, ``stage`` who stands beside us, each measuring module
has one function, ``measure(metrics, peers)``; ``report``, ``plot`` and ``pages`` are what a
run leaves. Not a test: no time is asserted.
"""
