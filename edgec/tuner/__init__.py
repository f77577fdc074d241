"""Find the fastest way to run a model: the search space, the search, the study and its report."""
