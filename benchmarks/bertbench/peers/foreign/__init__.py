"""Programs for environments of their own, started by their paths: they import nothing of ours."""
