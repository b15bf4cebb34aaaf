"""Network labs: their room; the capability is not built yet."""
