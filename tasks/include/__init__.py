"""Stage include: a folder of lm-eval tasks becomes a suite that lies in one place, with what its documents say."""
