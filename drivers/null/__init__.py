"""The null driver: containers with a loopback interface and nothing else."""
