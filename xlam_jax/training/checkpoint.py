"""Checkpoints of a run, through Orbax: asynchronous, sharded, complete or invisible.

`RUN/checkpoints/STEP/` holds three items: `params`, a flat mapping from dotted path ("layers.attn.q") to the
whole, stacked array; `opt_state`, likewise (none of an optimizer without state); `meta`, a JSON object.
Frozen and trained parameters are saved as one, so a reader need not know what was frozen, and any mesh and
host count can restore. A run that trains adapters saves these alone (`layers.attn.q.a`, ...); `meta` names
their base model. `RUN/best.json` names the best checkpoint, which stays whatever its age.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from xlam_jax.errors import FinalError, InputError, NoRoomError, WorkError
from xlam_jax.files import check_space, room_on_disk, write_text
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import has_adapters
from xlam_jax.models.spec import path_name, shardings
from xlam_jax.training import partition
from xlam_jax.training.kept import BEST, FOLDER, UNREADABLE, best_of, complete_steps, no_room
from xlam_jax.training.run_folder import note
from xlam_jax.training.shared import all_agree
from xlam_jax.training.step import TrainState
from xlam_jax.weights import intact

DELETED = "deleted"


@dataclasses.dataclass
class _Keep:
    """Orbax's rule of what stays: the newest, and those in `special`."""

    newest: int
    special: set[int]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        first = len(checkpoints) - self.newest
        return [i >= first or c.step in self.special for i, c in enumerate(checkpoints)]


class Store:
    """The checkpoints of one run folder.

    Args:
      run: the run folder.
      keep: how many of the newest checkpoints stay, beside the best.
      say: told how long the verification of a checkpoint took.

    Attributes:
      best: `{step, metric, value}` of the best complete checkpoint, None when there is none.
    """

    def __init__(self, run: str | Path, keep: int = 2, say: Callable[[str], None] = lambda text: None):
        self.folder = (Path(run) / FOLDER).absolute()
        self.best = best_of(run)
        self._coming: dict[str, Any] | None = None  # the best so far, not yet known to be complete
        self._saving = 0
        self._began, self._took = 0.0, 0.0  # of the save under way: when, and seconds until all was written
        self._say = say
        self._keep = _Keep(keep, {self.best["step"]} if self.best else set())
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=self._keep,  # type: ignore[arg-type]
            enable_async_checkpointing=True,
            create=True,
            cleanup_tmp_directories=True,
            # Moved at once, then deleted file by file: a kill between two files leaves no half of a checkpoint.
            todelete_subdir=DELETED,
            # Called when all is written, before the checkpoint gets its name.
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        self._sweep()
        self._manager = self._open()
        self._merge = jax.jit(partition.merge)

    def _open(self) -> ocp.CheckpointManager:
        # Compressing floats saves a few percent and costs most of the time.
        handlers = {
            "params": ocp.PyTreeCheckpointHandler(use_compression=False),
            "opt_state": ocp.PyTreeCheckpointHandler(use_compression=False),
            "meta": ocp.JsonCheckpointHandler(),
        }
        return ocp.CheckpointManager(self.folder, options=self._options, item_handlers=handlers)

    def save(self, state: TrainState, step: int, meta: dict[str, Any]) -> None:
        """Starts saving; the checkpoint is visible when all of it is on disk.

        Raises:
          NoRoomError: the disk is full. Asked before writing; what fills it later is found by the next call.
        """
        self.wait()
        with self._what_is_kept():
            check_space(self.folder, state_bytes(state))
        merge = self._merge if state.frozen.below is not None else partition.merge
        adapters = has_adapters(state.params)
        whole = state.params if adapters else merge(state.params, state.frozen)
        items = {
            "params": ocp.args.PyTreeSave(flat(whole)),  # type: ignore[call-arg]
            "meta": ocp.args.JsonSave({"step": step, **meta}),  # type: ignore[call-arg]
        }
        if moments := flat(state.opt_state):  # plain SGD has none, and Orbax refuses an empty item
            items["opt_state"] = ocp.args.PyTreeSave(moments)  # type: ignore[call-arg]
        self._saving, self._began, self._took = step, time.monotonic(), 0.0
        with self._what_is_kept():
            self._manager.save(step, args=ocp.args.Composite(**items))

    def wait(self) -> None:
        """Returns when everything is on disk."""
        with self._what_is_kept():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        if self._saving:  # without an error it is there
            note(self.folder.parent, "complete", self._saving, seconds=round(self._took, 2))
            self._saving = 0
        if self._coming:
            self.best, self._coming = self._coming, None
            if jax.process_index() == 0:
                write_text(self.folder.parent / BEST, json.dumps(self.best) + "\n")
            self._keep.special = {self.best["step"]}
            for step in sorted(self._manager.all_steps())[: -self._keep.newest]:
                if step not in self._keep.special:
                    self._manager.delete(step)
        self._sweep()

    def _seal(self) -> None:
        if jax.process_index():
            return
        for unfinished in self.folder.glob(f"{self._saving}.*"):
            intact.seal(unfinished)
        self._took = time.monotonic() - self._began

    def _sweep(self) -> None:
        if jax.process_index() == 0:
            shutil.rmtree(self.folder / DELETED, ignore_errors=True)

    def mark_best(self, step: int, metric: str, value: float) -> None:
        """The checkpoint of `step`, which is being saved or complete, is the best so far. The one before it
        stays until this one is complete."""
        self._coming = {"step": step, "metric": metric, "value": value}
        self._keep.special.add(step)

    def beats_best(self, metric: str, value: float, mode: str) -> bool:
        """Whether `value` of `metric` is better than the best's; a best by another metric does not count."""
        best = self._coming or self.best
        if not math.isfinite(value):
            return False
        if not best or best["metric"] != metric:
            return True
        return value < best["value"] if mode == "min" else value > best["value"]

    @contextmanager
    def _what_is_kept(self) -> Iterator[None]:
        try:
            with room_on_disk(self.folder):
                yield
        except NoRoomError as e:
            raise no_room(self.folder.parent, e.what) from e

    def close(self) -> None:
        self._manager.close()
        self._sweep()

    def forget_best_after(self, step: int) -> None:
        """A best checkpoint later than `step`, where a run goes on, was lost or will be made again."""
        steps = complete_steps(self.folder.parent)
        if self.best and (self.best["step"] > step or self.best["step"] not in steps):
            self.best = None
            self._keep.special.clear()

    def meta(self, step: int) -> dict[str, Any]:
        """The `meta` item of a checkpoint."""
        saved = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))  # type: ignore[call-arg]
        return saved["meta"]

    def restore(
        self,
        state: TrainState,
        state_shardings: TrainState,
        cfg: ModelConfig,
        expected: dict[str, Any],
        changed_ok: bool,
    ) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest undamaged checkpoint in the shape and place of `state`, and its meta; None when there is
        none. The base of adapters is not in it: `frozen` is then that of `state`.

        One that is seen to be damaged, by its checksums, is moved to `checkpoints.unreadable/` with a warning, and
        the one before it taken. One that cannot be read for another reason (storage, memory) stays where it is.

        Args:
          state: a fresh state, or its shapes.
          expected: meta of this run; must agree with the checkpoint's unless `changed_ok`.

        Raises:
          InputError: a checkpoint of another model; a changed config, data or tokenizer.
          WorkError: a checkpoint could not be read; another try may.
          FinalError: there are checkpoints, and all of them are damaged.
        """
        steps = complete_steps(self.folder.parent)
        for step in reversed(steps):
            if reason := self._damage(step):
                warnings.warn(f"checkpoint {step} is damaged: {reason}; trying the one before", stacklevel=2)
                self._set_aside(step)
                continue
            restored = error = None
            try:
                meta = self.meta(step)
                compare(meta, expected, changed_ok, where=str(self.folder / str(step)))
                restored = self._read(step, state, state_shardings, cfg), meta
            except InputError:
                raise
            except Exception as e:  # Orbax and tensorstore raise many kinds
                error = e
            if not all_agree(restored is not None):
                raise self._not_read(step, error) from error
            return restored
        if steps:
            raise FinalError(
                f"all of {len(steps)} checkpoints are damaged",
                where=str(self.folder),
                hint="they were moved to checkpoints.unreadable; --resume never starts afresh",
            )
        return None

    def _damage(self, step: int) -> str:
        """What is proven to be wrong with a checkpoint, on whichever process; "" for nothing."""
        folder, began = self.folder / str(step), time.monotonic()
        damage, error = None, None
        try:
            damage = intact.damage(folder, jax.process_index(), jax.process_count())
        except OSError as e:
            error = e
        if not all_agree(error is None):
            raise self._not_read(step, error) from error
        if not all_agree(not damage):
            return damage or "as another process found"
        if damage is None:
            self._say(f"checkpoint {step} has no checksums and is not verified")
        else:
            mib = intact.size(folder) / 2**20
            self._say(f"checkpoint {step} verified: {mib:.0f} MiB in {time.monotonic() - began:.1f} s")
        return ""

    def _not_read(self, step: int, error: Exception | None) -> WorkError:
        why = (
            (str(error).splitlines() or [type(error).__name__])[0][:200]
            if error
            else "as another process found"
        )
        return WorkError(
            f"checkpoint {step} could not be read: {why}",
            where=str(self.folder / str(step)),
            hint="nothing was changed, and the same command tries again; if it can never be read, "
            "move its folder elsewhere and the one before is taken",
        )

    def _read(
        self, step: int, state: TrainState, state_shardings: TrainState, cfg: ModelConfig
    ) -> TrainState:
        adapters = has_adapters(state.params)
        whole = state.params if adapters else jax.eval_shape(partition.merge, state.params, state.frozen)
        where = state_shardings.params if adapters else shardings(cfg, state_shardings.step.mesh)
        params = self.read_item(step, "params", whole, where)
        opt_state = state.opt_state
        if jax.tree.leaves(opt_state):
            opt_state = self.read_item(step, "opt_state", opt_state, state_shardings.opt_state)

        # Restored buffers may not be donatable, which would double the memory of every later step: copy once.
        def own(params: Any) -> tuple[Any, Any]:
            params = jax.tree.map(jnp.copy, params)
            return (params, None) if adapters else _like(params, state)

        out = (state_shardings.params, None if adapters else state_shardings.frozen)
        trained, frozen = jax.jit(own, out_shardings=out)(params)
        del params
        opt_state = jax.tree.map(
            lambda x, s: jax.jit(jnp.copy, out_shardings=s)(x), opt_state, state_shardings.opt_state
        )
        return TrainState(
            jax.device_put(jnp.int32(step), state_shardings.step),
            trained,
            opt_state,
            state.frozen if adapters else frozen,
        )

    def read_item(self, step: int, item: str, shapes: Any, placed: Any) -> Any:
        """One item of a checkpoint as a tree.

        Args:
          item: its name in the checkpoint: "params", "opt_state".
          shapes, placed: of the result, at every leaf; placed are shardings.
        """
        target = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
            for (name, x), s in zip(flat(shapes).items(), jax.tree.leaves(placed), strict=True)
        }
        how = ocp.checkpoint_utils.construct_restore_args(target)
        args = ocp.args.Composite(**{item: ocp.args.PyTreeRestore(target, restore_args=how)})  # type: ignore[call-arg]
        arrays = self._manager.restore(step, args=args)[item]
        return jax.tree.unflatten(jax.tree.structure(shapes), [arrays[name] for name in target])

    def _set_aside(self, step: int) -> None:
        self._manager.close()
        if jax.process_index() == 0:
            aside = self.folder.with_name(UNREADABLE)
            aside.mkdir(exist_ok=True)
            shutil.rmtree(aside / str(step), ignore_errors=True)
            (self.folder / str(step)).rename(aside / str(step))
            note(self.folder.parent, "set_aside", step)
        all_agree(True)  # nobody lists the folder before the first process has moved it
        self._manager = self._open()


@contextmanager
def open_store(
    run: str | Path, keep: int = 2, say: Callable[[str], None] = lambda text: None
) -> Iterator[Store]:
    """A `Store` that is closed at the end."""
    store = Store(run, keep, say)
    try:
        yield store
    except BaseException:
        # Closing waits for a save under way, which may fail too; what went wrong first is what is told.
        with suppress(Exception):
            store.close()
        raise
    store.close()


def compare(saved: dict[str, Any], expected: dict[str, Any], changed_ok: bool, where: str) -> None:
    """Raises InputError when a checkpoint's meta is of another model, or, unless `changed_ok`, of a run with
    other data, tokenizer or config; names the keys.

    Args:
      saved, expected: what the checkpoint says of its run, and what the run that would go on says.
    """
    if saved["model"] != expected["model"]:
        keys = _differences(saved["model"], expected["model"])
        raise InputError(f"a checkpoint of another model: {keys}", where=where, hint="choose another `out`")
    if changed_ok:
        return
    hint = "put it back, choose another `out`, or set resume_changed=true"
    if saved["config"] != expected["config"]:
        raise InputError(
            f"the config changed since the checkpoint: {_differences(saved['config'], expected['config'])}",
            where=where,
            hint=hint,
        )
    things = {"data": "the training data (data.train)", "tokenizer": "the tokenizer"}
    for key, what in {**things, "base": "the weights of the base model"}.items():
        if saved.get(key) != expected.get(key):
            raise InputError(f"{what} changed since the checkpoint", where=where, hint=hint)


def model_to_json(cfg: ModelConfig) -> dict[str, Any]:
    """A ModelConfig as JSON values."""
    return {**dataclasses.asdict(cfg), "eos_token_ids": list(cfg.eos_token_ids)}


def state_bytes(state: TrainState) -> int:
    """Size of a checkpoint of `state` (arrays or shapes), nearly."""
    if has_adapters(state.params):
        state = dataclasses.replace(state, frozen=None)
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))


def flat(tree: Any) -> dict[str, Any]:
    """Dotted path -> leaf, in tree order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_name(path): leaf for path, leaf in leaves}


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    return ", ".join(f"{k} was {old.get(k)!r}, is {new.get(k)!r}" for k in keys[:4])


def _like(params: Any, state: TrainState) -> tuple[Any, partition.Frozen]:
    """Splits whole parameters as those of `state` are."""
    below = state.frozen.below
    if below is not None:
        k = jax.tree.leaves(below)[0].shape[0]
        below = jax.tree.map(lambda a: a[:k], params.layers)
        params = params.replace(layers=jax.tree.map(lambda a: a[k:], params.layers))

    def pick(mask: Any) -> Any:
        return jax.tree.map(lambda m, p: None if m is None else p, mask, params, is_leaf=lambda x: x is None)

    return pick(state.params), partition.Frozen(pick(state.frozen.params), below)
