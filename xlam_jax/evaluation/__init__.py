"""Scoring a model on function-calling examples: cases, harness, report."""

from xlam_jax.evaluation.harness import Case, CaseResult, EvalReport, evaluate, evaluate_cases, record_cases

__all__ = ["Case", "CaseResult", "EvalReport", "evaluate", "evaluate_cases", "record_cases"]
