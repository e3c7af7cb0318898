"""Stage evaluate: a model on the benchmarks of a suite, through lm-eval."""
