"""What runs on the machine: sandboxes, and the kernel interfaces beneath them."""
