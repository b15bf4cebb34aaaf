"""macvlan networks: containers as stations of the host's LAN."""
