"""Is a call right? BFCL's rules, and intervals for the rates they give."""

from xlam_jax.scoring.bfcl import CATEGORIES, LANGUAGES, Answers, Verdict, answers_of, score
from xlam_jax.scoring.intervals import wilson

__all__ = ["CATEGORIES", "LANGUAGES", "Answers", "Verdict", "answers_of", "score", "wilson"]
