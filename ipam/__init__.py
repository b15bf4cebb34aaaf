"""Address management: pools, addresses, leases."""
