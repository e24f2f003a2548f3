"""Decides about images: translates ImageSpecs and Dockerfiles, plans layers, and defines the units that build."""
