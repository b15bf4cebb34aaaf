"""``make bench``: us, Docker and the bare kernel, interleaved in one run."""
