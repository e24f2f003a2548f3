"""Implements the services of Flyte's API, and runs the deploys and image builds that they begin."""
