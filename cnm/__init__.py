"""The Container Network Model: sandboxes, endpoints and networks on Linux.

Importing this package imports nothing else; the version is read without
importing package metadata, so that the commands start fast.
"""

__version__ = "0.1.0"
