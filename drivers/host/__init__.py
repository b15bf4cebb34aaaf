"""The host driver: containers that share the host's own network stack."""
