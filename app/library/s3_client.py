"""The boto3 client that the bucket storage uses: how long it waits, and what it does not expect of a store.

boto3 is an extra, so that this module is imported only where a bucket is used.
"""

from typing import Any

import boto3
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header

from app.connecting import ConnectsInTime

#: What the client raises.
FAILURES: tuple[type[Exception], ...] = (BotoCoreError, ClientError)

# The longest wait of a request is for two calls to a store that hangs: one fails, and one can't remove what was sent.
# Each call is tried twice, with a pause between.
_CALLS = 2
_ATTEMPTS = 2
_MAX_PAUSE_SECONDS = 1.0  # botocore's
_MAX_ATTEMPT_SECONDS, _MIN_ATTEMPT_SECONDS = 14.0, 0.5
#: The rest of an attempt is for waiting without a byte.
_CONNECTING_SHARE = 2 / 7
_POOL_CONNECTIONS = 32


class _Connection(ConnectsInTime, AWSHTTPConnection):  # type: ignore[misc]
    """A store has many addresses, which must not take the whole time-out each."""


class _TLSConnection(ConnectsInTime, AWSHTTPSConnection):  # type: ignore[misc]
    """The same over TLS."""


class _Pool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Connection


class _TLSPool(AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _TLSConnection


def make_client(deadline_seconds: float) -> Any:
    """Return a client whose waits fit into a request's deadline. It connects when it is first used. Thread-safe."""
    seconds = (deadline_seconds / _CALLS - _MAX_PAUSE_SECONDS) / _ATTEMPTS
    seconds = max(_MIN_ATTEMPT_SECONDS, min(seconds, _MAX_ATTEMPT_SECONDS))
    client = boto3.client(
        "s3",
        config=Config(
            connect_timeout=seconds * _CONNECTING_SHARE,
            read_timeout=seconds * (1 - _CONNECTING_SHARE),
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=_POOL_CONNECTIONS,
            # Many stores that speak S3 don't know the checksums that newer clients add by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    # Waiting for "100 Continue" delays each write to a store that doesn't say it; here all that is sent is at hand.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    # botocore has no other way to say this; a test fails where it has become another one.
    client._endpoint.http_session._pool_classes_by_scheme.update(http=_Pool, https=_TLSPool)
    return client
