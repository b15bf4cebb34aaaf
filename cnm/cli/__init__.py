"""The commands: standard library only, one module a noun."""
