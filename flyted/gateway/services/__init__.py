"""The services of Flyte's API, and the deploys and image builds that they begin."""
