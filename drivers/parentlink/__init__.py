"""What drivers share whose links sit on a link of the host: macvlan and ipvlan.

``options`` reads what both understand; ``record`` is what is known of a network; ``parents``
owns the links below, ``children`` those in sandboxes; ``driver`` puts the calls together. What
makes the two differ is a ``Kind`` (see ``driver``), which each brings along.
"""
