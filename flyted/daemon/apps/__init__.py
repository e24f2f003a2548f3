"""The life of an app as its user sees it: deploys, starts, stops, deletions, status and data."""
