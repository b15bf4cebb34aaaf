"""The CNI plugin: environment and standard input in, one request to the daemon, a result out.

The container network interface, version 1.1 (https://www.cni.dev/docs/spec/): a container
runtime starts ``cnm-cni`` for each step. Nothing is decided here that the daemon could decide;
the standard library alone is imported, and little of that, since a runtime waits for it.
"""
