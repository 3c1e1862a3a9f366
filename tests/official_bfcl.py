"""The leaderboard's own checker, from an installed bfcl-eval; tests that need it skip loudly without it."""

import collections
import copy
import importlib
import json
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


_WANTED = "tree_sitter==0.21.3 tree-sitter-java==0.21.0 tree-sitter-javascript==0.21.4 overrides tenacity"


def official_counts(results, scores, model, categories, root):
    """`{name of a score file: (right, all)}` that its runner counts in result files, read by its own decoder."""
    for module in ("tree_sitter", "tree_sitter_java", "tree_sitter_javascript", "overrides", "tenacity"):
        pytest.importorskip(module, reason=f"the official runner needs pip install --no-deps {_WANTED}")
    runner = official("eval_checker.eval_runner", root)
    handler = importlib.import_module("bfcl_eval.model_handler.local_inference.salesforce_llama")
    flags = vars(runner.MODEL_CONFIG_MAPPING["any"])
    runner.MODEL_CONFIG_MAPPING[model.replace("_", "/")] = types.SimpleNamespace(
        **flags, model_handler=handler.SalesforceLlamaHandler, model_name="any", is_fc_model=False
    )
    scores.mkdir(exist_ok=True)
    runner.runner([model], categories, results, scores, allow_missing=True)
    return counts_in(scores)


def counts_in(scores):
    """The heads of score files."""
    heads = {p.name: json.loads(p.read_text().splitlines()[0]) for p in scores.rglob("BFCL_v4_*_score.json")}
    return {name: (head["correct_count"], head["total_count"]) for name, head in heads.items()}
