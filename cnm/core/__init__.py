"""The CNM verbs. No kernel, no wire format, no driver's name."""
