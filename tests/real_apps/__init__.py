"""How many public app files this machine would serve, unchanged: a measure, not a test, which CI does not run."""
