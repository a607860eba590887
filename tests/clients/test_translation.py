"""Exceptions of requests and urllib3 become failures of the gateway, every one of them."""

from collections.abc import Callable

import pytest
import requests
import urllib3

from app.clients import transport
from app.clients.transport import ResponseLostFailure, UpstreamFailure


def foreign_exceptions() -> list[type[Exception]]:
    """Every exception class that requests and urllib3 export, but for that of proxies, of which we use none."""
    modules = [requests.exceptions, urllib3.exceptions]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return [
        cls
        for cls in dict.fromkeys(classes)
        if issubclass(cls, Exception)
        and cls is not urllib3.exceptions.ProxySchemeUnsupported
        and not issubclass(cls, Warning)
        and cls.__module__.startswith(("requests", "urllib3"))
    ]


@pytest.mark.parametrize("foreign", foreign_exceptions(), ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_foreign_exception_is_translated_and_chained(foreign: type[Exception]) -> None:
    """Also a class that a new version of requests or urllib3 adds."""
    error = foreign.__new__(foreign)
    Exception.__init__(error, "boom")
    with pytest.raises(UpstreamFailure) as caught, transport.translated():
        raise error
    assert caught.value.__cause__ is error


def test_an_exception_that_is_ours_passes_the_translation_unchanged() -> None:
    bug = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug") as caught, transport.translated():
        raise bug
    assert caught.value is bug


@pytest.mark.parametrize(
    "make",
    [
        lambda: TimeoutError("recv"),
        lambda: requests.ReadTimeout("late"),
        lambda: requests.ConnectionError(urllib3.exceptions.ReadTimeoutError(None, "/", "late")),  # type: ignore[arg-type]
        lambda: urllib3.exceptions.ProtocolError("cut", TimeoutError("recv")),
    ],
)
def test_a_timeout_is_recognized_however_it_is_wrapped(make: Callable[[], Exception]) -> None:
    with pytest.raises(ResponseLostFailure) as caught, transport.translated():
        raise make()
    assert caught.value.is_timeout
