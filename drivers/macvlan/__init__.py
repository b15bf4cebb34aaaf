"""The macvlan driver: its room; the capability is not built yet."""
