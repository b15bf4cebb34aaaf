"""Pictures of a lab as the kernel has it: ``picture`` looks, ``tree`` and ``svg`` draw."""
