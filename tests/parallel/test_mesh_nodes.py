"""Meshes over several nodes: which device stands where, with devices that only say where they are."""

import logging
from dataclasses import dataclass

import numpy as np
import pytest

from xlam_jax.errors import InputError
from xlam_jax.parallel.mesh import AXES, MeshConfig, arrange, batch_share, by_node, mesh_shape


@dataclass(frozen=True)
class Device:
    id: int
    process_index: int
    slice_index: int | None = None
    platform: str = "gpu"
    device_kind: str = "NVIDIA H100"


class Grid:
    """The part of a mesh that `batch_share` reads."""

    def __init__(self, devices):
        self.devices = devices


def cluster(nodes, per_node, *, per_process=None, slices=True):
    """Devices in a scrambled order, `per_process` of each process."""
    per_process = per_process or per_node
    total = nodes * per_node
    devices = [Device(i, i // per_process, i // per_node if slices else None) for i in range(total)]
    return [devices[i] for i in np.random.default_rng(0).permutation(total)]


def grid(devices, nodes=0, **sizes):
    return arrange(mesh_shape(MeshConfig(**sizes), len(devices)), by_node(devices, nodes))


def nodes_along(devices, axis):
    """The nodes met when going along one axis from its first device."""
    line = np.moveaxis(devices, AXES.index(axis), 0).reshape(devices.shape[AXES.index(axis)], -1)
    return [[d.slice_index for d in other] for other in line.T]


@pytest.mark.parametrize(
    "sizes",
    [
        {"data": 4, "tensor": 8},
        {"data": 2, "fsdp": 2, "expert": 8},
        {"fsdp": -1, "context": 4, "tensor": 2},
        {"data": 2, "fsdp": 4, "expert": 2, "tensor": 2},
    ],
    ids=str,
)
def test_the_axes_that_talk_most_stay_inside_a_node(sizes):
    devices = grid(cluster(4, 8), **sizes)
    assert sorted(d.id for d in devices.ravel()) == list(range(32))
    for axis in ("expert", "context", "tensor"):
        assert all(len(set(nodes)) == 1 for nodes in nodes_along(devices, axis)), axis


def test_fsdp_goes_across_only_when_a_node_is_full():
    devices = grid(cluster(2, 8), fsdp=16)
    assert [d.slice_index for d in devices.ravel()] == [0] * 8 + [1] * 8
    devices = grid(cluster(2, 8), data=2, fsdp=8)
    assert all(len(set(nodes)) == 1 for nodes in nodes_along(devices, "fsdp"))


def test_an_axis_over_the_slow_network_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        grid(cluster(2, 4), tensor=8)
    assert "tensor crosses nodes" in caplog.text


def test_where_a_device_is():
    assert [len(n) for n in by_node(cluster(2, 4))] == [4, 4]
    # Without slices a process is a node, unless the number of nodes is given.
    per_gpu = cluster(2, 4, per_process=1, slices=False)
    assert [len(n) for n in by_node(per_gpu)] == [1] * 8
    assert [sorted(d.id for d in n) for n in by_node(per_gpu, 2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    # A slice of several processes is one node.
    assert len(by_node(cluster(1, 8, per_process=4))) == 1


def test_nodes_that_are_not_equal():
    with pytest.raises(InputError, match="nodes hold 4, 3 devices"):
        by_node([d for d in cluster(2, 4) if d.id < 7])
    with pytest.raises(InputError, match="8 devices do not divide by 3 nodes"):
        by_node(cluster(2, 4), 3)


def test_an_axis_that_breaks_inside_a_node_still_uses_every_device(caplog):
    devices = grid(cluster(3, 4), data=2, tensor=6)
    assert sorted(d.id for d in devices.ravel()) == list(range(12))
    assert "tensor crosses nodes" in caplog.text


def test_each_process_holds_its_part_of_the_batch():
    devices = Grid(grid(cluster(4, 8), data=2, fsdp=4, tensor=4))
    assert [batch_share(devices, p) for p in range(4)] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    # A process per GPU: the four of one tensor group hold the same rows.
    devices = Grid(grid(cluster(2, 4, per_process=1), fsdp=2, tensor=4))
    assert [batch_share(devices, p) for p in range(8)] == [(0, 2)] * 4 + [(1, 2)] * 4
    # Tensor parallel over both nodes: all hold all rows.
    devices = Grid(grid(cluster(2, 4), tensor=8))
    assert [batch_share(devices, p) for p in range(2)] == [(0, 1)] * 2


def test_a_part_of_the_batch_that_is_not_whole():
    scattered = np.array([Device(i, i % 2) for i in range(4)]).reshape(4, 1, 1, 1, 1)
    with pytest.raises(InputError, match=r"process 0 holds shards \[0, 2\] of 4"):
        batch_share(Grid(scattered), 0)


def test_hosts_of_a_slice_that_does_not_name_itself_are_one_node():
    hosts = [Device(i, i // 4, platform="tpu", device_kind="TPU v5p") for i in range(16)]
    assert by_node(hosts) == [hosts]
    assert len(by_node([Device(i, i // 4) for i in range(16)])) == 4
