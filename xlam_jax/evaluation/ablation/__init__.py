"""Ablations: the same budget of training under several recipes and seeds, compared row by row."""
