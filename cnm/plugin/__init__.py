"""Docker's plugin protocols: our drivers offered to engines, and others' drivers used by us."""
