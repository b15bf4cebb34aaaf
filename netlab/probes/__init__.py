"""One look at a lab that runs: does this ping, name, connection, way, rate, command hold?

Probes run our own code or the machine's tools in the *network namespace* of a place, not the
programs of a container, which may have none. They say what they saw; whether that was wanted,
and whether to try again, is ``check``'s.
"""
