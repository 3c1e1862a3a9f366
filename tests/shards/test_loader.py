"""The order of rows is a function of (seed, step) alone."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tests import tiny_run
from xlam_jax.errors import InputError
from xlam_jax.shards.loader import PackedSource, Steps, batches, eval_batches, row_indices, to_device


@pytest.fixture(scope="module")
def source(tmp_path_factory, tokenizer_folder):
    folder = tmp_path_factory.mktemp("loader") / "packed"
    tiny_run.make_data(folder, tokenizer_folder, count=70)
    return PackedSource(folder)


def stream(source, rows, accumulation, steps, hosts=1, start=0):
    """All batches, `[steps, A, B, S]` tokens, put together from the hosts."""
    parts = [
        [n.batch.tokens for n in batches(Steps(source, rows, accumulation, 7, steps, h, hosts), start)]
        for h in range(hosts)
    ]
    return np.stack([np.concatenate(step, axis=1) for step in zip(*parts, strict=True)])


def test_every_epoch_is_a_permutation_of_its_own(source):
    n = len(source)
    order = np.concatenate([row_indices(step, 4, n, 7) for step in range(n)])  # four epochs
    epochs = order.reshape(4, n)
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert row_indices(0, n, n, 8).tolist() != epochs[0].tolist()


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_do_not_change_the_batch(source, hosts):
    whole = stream(source, 8, 2, 5)
    assert whole.shape == (5, 2, 4, 512)
    assert np.array_equal(stream(source, 8, 2, 5, hosts), whole)


def test_accumulation_does_not_change_the_rows_of_a_step(source):
    assert np.array_equal(
        stream(source, 8, 1, 3).reshape(3, 8, -1), stream(source, 8, 4, 3).reshape(3, 8, -1)
    )


def test_the_state_is_the_step(source):
    assert np.array_equal(stream(source, 4, 1, 9, start=5), stream(source, 4, 1, 9)[5:])
    assert list(batches(Steps(source, 4, 1, 7, 3), 3)) == []


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_device_count_does_not_change_the_batch(source, devices):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    steps = Steps(source, 8, 2, 7, 1)
    batch = to_device(steps[0], NamedSharding(mesh, P(None, "data")))
    assert np.array_equal(batch.tokens, steps[0].tokens)
    assert len({str(shard.index) for shard in batch.tokens.addressable_shards}) == devices


def test_record_ids_name_the_rows(source):
    steps = Steps(source, 8, 2, 7, 3)
    ids = steps.record_ids(2)
    for a in range(2):
        for b in range(4):
            row, expected = source[int(steps.indices(2)[a, b])]
            assert ids[a][b] == expected
            assert np.array_equal(steps[2].tokens[a, b], row.tokens)


def test_eval_batches_hold_every_row_once(source):
    rows = [field for batch in eval_batches(source, 4) for field in batch.tokens[0]]
    assert np.array_equal(rows[: len(source)], [source[i][0].tokens for i in range(len(source))])
    assert len(rows) % 4 == 0 and not np.any(rows[len(source) :])
    hosts = [[b.tokens for b in eval_batches(source, 4, h, 2)] for h in range(2)]
    joined = np.concatenate([np.concatenate(p, axis=1)[0] for p in zip(*hosts, strict=True)])
    assert np.array_equal(joined, rows)


def test_rows_that_do_not_split(source):
    with pytest.raises(InputError, match="6 rows"):
        Steps(source, 6, 2, 0, 1, 0, 2)
