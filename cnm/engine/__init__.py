"""The Docker Engine API and ours beside it: wire formats in, wire formats out."""
