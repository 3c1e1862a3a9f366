"""The leaderboard's own checker, from an installed bfcl-eval; tests that need it skip loudly without it."""

import collections
import copy
import importlib
import os
import sys
import types
from pathlib import Path

import pytest

_REASON = "bfcl-eval is not installed (pip install --no-deps bfcl-eval)"


def official(module, root):
    """A module of `bfcl_eval`, which makes its folders in `root`."""
    os.environ.setdefault("BFCL_PROJECT_ROOT", str(root))
    # Its registry of models imports every vendor's client; the checker asks it for these only.
    registry = types.ModuleType("bfcl_eval.constants.model_config")
    words = dict.fromkeys(("display_name", "url", "org", "license"), "x")
    flags = types.SimpleNamespace(underscore_to_dot=False, input_price=None, output_price=None, **words)
    registry.MODEL_CONFIG_MAPPING = collections.defaultdict(lambda: flags)
    sys.modules.setdefault(registry.__name__, registry)
    return pytest.importorskip(f"bfcl_eval.{module}", reason=_REASON)


def official_data():
    """Its data folder."""
    package = pytest.importorskip("bfcl_eval", reason=_REASON)
    return Path(next(iter(package.__path__))) / "data"


def official_verdict(root):
    """`(row, calls, answers, category, language) -> (valid, error type)` by its `ast_checker`."""
    checker = official("eval_checker.ast_eval.ast_checker", root)
    language_of = importlib.import_module("bfcl_eval.constants.enums").Language

    def verdict(row, calls, answers, category, language):
        functions = row["function"] if isinstance(row["function"], list) else [row["function"]]
        made = [{c.name: copy.deepcopy(c.arguments)} for c in calls]
        try:
            result = checker.ast_checker(
                functions, made, answers, language_of[language.upper()], category, "any"
            )
        except Exception:  # an answer it cannot digest counts against the model
            return False, "raised"
        return result["valid"], result.get("error_type", "")

    return verdict
