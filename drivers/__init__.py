"""Network drivers: each in a package of its own, meeting the core only through the contracts."""
