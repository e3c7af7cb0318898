"""Variants of one training side by side: the grid they come from, their scores, and the answer that these give."""
