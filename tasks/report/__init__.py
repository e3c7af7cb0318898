"""Stage report: evaluation results -> base against tuned, as a page, a plot and metrics; a pure function of files."""
