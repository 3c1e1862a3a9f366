"""Fixtures of the tests of folders and releases."""

import shutil

import pytest

from tests import tiny_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    tiny_run.make_model(root / "model", tiny_run.make_tokenizer(root / "tokenizer"))
    return root / "model"


@pytest.fixture
def model(made, tmp_path):
    return shutil.copytree(made, tmp_path / "model")
