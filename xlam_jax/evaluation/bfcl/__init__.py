"""The Berkeley Function-Calling Leaderboard, versions 2 to 4: data, cases, aggregates, result and score files."""

from xlam_jax.evaluation.bfcl.cases import bfcl_cases, category_cases
from xlam_jax.evaluation.bfcl.categories import CATEGORIES, NOT_RUN, Category, category, chosen
from xlam_jax.evaluation.bfcl.data import Data, find_data

__all__ = [
    "CATEGORIES",
    "NOT_RUN",
    "Category",
    "Data",
    "bfcl_cases",
    "category",
    "category_cases",
    "chosen",
    "find_data",
]
