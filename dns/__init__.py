"""The embedded resolver: its room; the capability is not built yet."""
