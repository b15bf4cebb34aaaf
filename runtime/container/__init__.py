"""Small containers: images, processes, files. Handed a namespace's path; knows no network."""
