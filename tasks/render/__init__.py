"""Stage render: records and templates to examples; the mixture, the hold-out and its benchmarks."""
