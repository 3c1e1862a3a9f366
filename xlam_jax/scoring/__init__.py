"""Is a call right? BFCL's rules, strict ones, and intervals for the rates they give."""

from xlam_jax.scoring.bfcl import CATEGORIES, LANGUAGES, Answers, Verdict, answers_of, score
from xlam_jax.scoring.intervals import weighted, wilson
from xlam_jax.scoring.strict import score_strict

__all__ = [
    "CATEGORIES",
    "LANGUAGES",
    "Answers",
    "Verdict",
    "answers_of",
    "score",
    "score_strict",
    "weighted",
    "wilson",
]
