"""All-gather of the tokens, each device's own experts on all of them, reduce-scatter of the sums."""

from __future__ import annotations

import jax

from xlam_jax.parallel.exchange.shards import Output, Setting, run_local


def gather(setting: Setting, x_TD, ids_TK, weights_TK, experts) -> Output:
    """Every peer receives (P - 1) T rows whatever the routing.

    Where the peers hold the same tokens (a batch too small to split, as in generation) nothing is gathered and the sums
    are reduced to all.

    Args:
      x_TD, ids_TK, weights_TK: tokens of this device and their choices; an id of `setting.num_experts` is no expert.
      experts: those of this device, as `setting.ffn` takes them.
    """
    axes = setting.expert_axes
    if setting.split:
        x_TD, ids_TK, weights_TK = (
            jax.lax.all_gather(a, axes, axis=0, tiled=True) for a in (x_TD, ids_TK, weights_TK)
        )
    out = run_local(setting, x_TD.shape[0], x_TD, ids_TK, weights_TK, experts)
    y_TD = out.y_TD.astype(x_TD.dtype)
    if setting.split:
        y_TD = jax.lax.psum_scatter(y_TD, axes, scatter_dimension=0, tiled=True)
    else:
        y_TD = jax.lax.psum(y_TD, axes)
    return out._replace(y_TD=y_TD)
