"""One busboy process for all tests here, and a gateway with a recording converter for each file that asks."""

from collections.abc import Iterator

import pytest

from tests.corpus.readers import close_busboy
from tests.corpus.recorder import RecordingConverter
from tests.support.clients import Client
from tests.support.stack import Stack


@pytest.fixture(autouse=True, scope="session")
def _busboy_ends() -> Iterator[None]:
    yield
    close_busboy()


@pytest.fixture(scope="module")
def converter() -> Iterator[RecordingConverter]:
    with RecordingConverter() as recording:
        yield recording


@pytest.fixture(scope="module")
def stack(converter: RecordingConverter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway whose converter keeps the bytes; tests take what it received before they end."""
    environment = {"VISIONA_CONVERTER_BASE_URL": converter.url}
    with Stack(tmp_path_factory.mktemp("corpus"), environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def alice(stack: Stack) -> Client:
    return stack.signed_in("alice")
