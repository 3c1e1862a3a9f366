"""Tool-call accuracy while training: an evaluator that `xlam train` hands to the loop."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlam_jax.cli.common import need_file
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from xlam_jax.inference import Engine
    from xlam_jax.training.config import TrainConfig


class CallAccuracy:
    """Greedy, unconstrained answers to held-out records, scored by BFCL's rules: `{eval_ast, eval_parsable}`.

    The codec is the one the training data was written with.

    Raises:
      InputError: no records, records that are also trained on, or a tokenizer that lacks the codec's stop
        token.
    """

    def __init__(self, config: TrainConfig):
        from transformers import AutoTokenizer

        from xlam_jax.data.loader import PackedSource
        from xlam_jax.evaluation import record_cases
        from xlam_jax.format import get_codec, read_records
        from xlam_jax.release.hf_in import read_config

        calls = config.log.calls
        assert calls is not None
        self.every, self._calls = calls.every, calls
        source = PackedSource(config.data.train)
        self._codec = get_codec(**source.manifest["codec"])
        self._cfg = read_config(config.model)
        self._tokenizer = AutoTokenizer.from_pretrained(config.model)
        need_file(Path(calls.records), "records file")
        records = list(islice(read_records(calls.records), calls.rows))
        self._cases = [case for record in records for case in record_cases(record, self._codec)]
        if not self._cases:
            raise InputError("no record to ask", where=calls.records, hint="log.calls.records: held-out records")
        self._engine: Engine | None = None

    def __call__(self, params: Any, step: int) -> dict[str, float]:
        from xlam_jax.evaluation import evaluate_cases
        from xlam_jax.inference import Engine

        if self._engine is None:
            self._engine = Engine(
                params,
                self._cfg,
                self._tokenizer,
                self._codec,
                max_len=self._calls.max_len,
                batch_size=self._calls.batch_size,
            )
        self._engine.load(params)
        report = evaluate_cases(
            self._engine, self._cases, self._codec, max_new_tokens=self._calls.max_new_tokens
        )
        self._engine.unload()  # a second copy of the weights has no place in a training step
        return {"eval_ast": report.summary["ast"], "eval_parsable": report.summary["parsable"]}
