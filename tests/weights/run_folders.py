"""Folders of training runs, as the trainer writes them, without training."""

import jax
import orbax.checkpoint as ocp

from xlam_jax.models.spec import path_name
from xlam_jax.weights.hf_out import write_configs

CODEC = {"call_format": "xlam-json", "template": "chatml", "layout": "brackets", "thought": False}


def write_run(run, params, cfg, steps=(1,), codec=CODEC):
    """CheckpointManager, flat params (those of a step are larger by the step, but for step 1), JSON meta."""
    flat = {path_name(p): x for p, x in jax.tree_util.tree_flatten_with_path(params)[0]}
    with ocp.CheckpointManager(run.absolute() / "checkpoints", item_names=("params", "meta")) as manager:
        for step in steps:
            values = {k: v + step for k, v in flat.items()} if step > 1 else flat
            args = ocp.args.Composite(
                params=ocp.args.StandardSave(values),
                meta=ocp.args.JsonSave({"step": step, "codec": codec}),
            )
            manager.save(step, args=args)
        manager.wait_until_finished()
    write_configs(run, cfg, str(params.embed.dtype))
    return run / "checkpoints" / str(steps[-1]) / "params"
