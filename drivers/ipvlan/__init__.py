"""ipvlan networks: containers that share the MAC address of the host's link."""
