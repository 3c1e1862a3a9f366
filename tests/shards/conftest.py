import pytest

from tests import tiny_run


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    return tiny_run.make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory, tokenizer_folder):
    return tiny_run.make_data(tmp_path_factory.mktemp("data") / "packed", tokenizer_folder)
