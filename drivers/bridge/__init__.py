"""The bridge driver: Linux bridge, veth pairs, NAT and isolation by nftables."""
