"""What FLAN's authors published, to set beside the figures here (Wei et al. 2021, arXiv 2109.01652).

Read second-hand, from copies of the paper's figures: check before quoting as exact. FLAN is a model of 137B parameters,
and its authors saw models of 8B and less get worse on unseen tasks; so the shape compares, not the height.
"""

CITATION = "Wei et al. 2021, arXiv 2109.01652"

CAVEAT = (
    "FLAN's figures were read second-hand from the paper; they are of a model of 137B parameters and of other tasks,"
    " so that their shape compares and not their height."
)

CLUSTERS = {1: 0.499, 2: 0.55, 3: 0.593, 4: 0.592, 5: 0.608, 6: 0.619, 7: 0.635}
"""Held-out mean by the number of clusters that were trained on."""

WORDINGS = {
    "no instruction": 0.373,
    "name in training alone": 0.466,
    "name in both": 0.47,
    "instructions": 0.552,
}
"""Held-out mean by what stood before the inputs in training; evaluated with instructions but for `name in both`."""
