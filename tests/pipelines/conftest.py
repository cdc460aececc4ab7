"""A small prepared dataset in both forms."""

import pathlib

import pytest

from tests.pipelines.prepared import write_dataset


@pytest.fixture(scope="session", params=["folder", "arrayrecord"])
def stored(request, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The dataset, once in each form."""
    return write_dataset(tmp_path_factory.mktemp("prepared") / request.param, request.param)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The dataset as folders."""
    return write_dataset(tmp_path_factory.mktemp("prepared") / "clips")
