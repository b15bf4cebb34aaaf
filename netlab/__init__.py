"""Network labs: many hosts from one file. Documentation: docs/netlab.md."""
