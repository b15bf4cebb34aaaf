"""The machine: netlink, nftables, namespaces, sysctls. The only room that touches them."""
