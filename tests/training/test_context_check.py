"""Rows that do not divide over the context axis are refused before a run begins."""

import pytest

from xlam_jax.errors import InputError
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.training.checks import check_context


def test_rows_divide_over_context():
    mesh = make_mesh(MeshConfig(context=4))
    check_context(64, mesh)
    with pytest.raises(InputError, match="rows of 66 positions do not split 4 ways"):
        check_context(66, mesh)
