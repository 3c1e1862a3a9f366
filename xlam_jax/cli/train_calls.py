"""Tool-call accuracy while training: an evaluator that `xlam train` hands to the loop."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from xlam_jax.cli.common import need_file
from xlam_jax.errors import InputError
from xlam_jax.training.config import CallsConfig, TrainConfig


class CallAccuracy:
    """Greedy, unconstrained answers to held-out records, scored by BFCL's rules: `{eval_ast, eval_parsable}`.

    The codec is the one the training data was written with.

    Raises:
      InputError: no records.
    """

    def __init__(self, config: TrainConfig, calls: CallsConfig):
        from transformers import AutoTokenizer

        from xlam_jax.evaluation import record_cases
        from xlam_jax.format import get_codec, read_records
        from xlam_jax.shards.loader import PackedSource
        from xlam_jax.weights.generation import stop_ids
        from xlam_jax.weights.hf_in import read_config

        self.every, self._calls = calls.every, calls
        source = PackedSource(config.data.train)
        self._codec = get_codec(**source.manifest["codec"])
        self._cfg, self._ends = read_config(config.model), stop_ids(config.model)
        self._tokenizer = AutoTokenizer.from_pretrained(config.model)
        need_file(Path(calls.records), "records file")
        records = list(islice(read_records(calls.records), calls.rows))
        self._cases = [case for record in records for case in record_cases(record, self._codec)]
        if not self._cases:
            hint = "log.calls.records: held-out records with at least one step"
            raise InputError("no record to ask", where=calls.records, hint=hint)

    def __call__(self, params: Any, step: int) -> dict[str, float]:
        from xlam_jax.evaluation import evaluate_cases
        from xlam_jax.inference import Engine

        calls = self._calls
        # Its weights are a second copy, unstacked; it goes when this returns.
        engine = Engine(
            params,
            self._cfg,
            self._tokenizer,
            self._codec,
            max_len=calls.max_len,
            batch_size=calls.batch_size,
            stop_ids=self._ends,
        )
        report = evaluate_cases(engine, self._cases, self._codec, max_new_tokens=calls.max_new_tokens)
        return {"eval_ast": report.summary["ast"], "eval_parsable": report.summary["parsable"]}
