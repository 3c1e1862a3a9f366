"""No exchange of tokens: every device computes its own, with the weights of all experts."""

from __future__ import annotations

from xlam_jax.parallel.exchange.shards import Output, Setting, run_local


def none(setting: Setting, x_TD, ids_TK, weights_TK, experts) -> Output:
    """`setting.peers` is 1 here: experts that the mesh splits have been gathered like any split parameter.

    Args:
      x_TD, ids_TK, weights_TK: tokens of this device and their choices; an id of `setting.num_experts` is no expert.
      experts: all of them, as `setting.ffn` takes them.
    """
    out = run_local(setting, x_TD.shape[0], x_TD, ids_TK, weights_TK, experts)
    return out._replace(y_TD=out.y_TD.astype(x_TD.dtype))
