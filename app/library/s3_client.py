"""The boto3 client of the bucket storage, with bounded waits and without features that some stores lack.

boto3 is an extra, so this module is imported only if a bucket is used.
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

#: The exceptions of the client.
FAILURES: tuple[type[Exception], ...] = (BotoCoreError, ClientError)

# A request makes at most two calls to a store that hangs: one that fails, and one that fails to remove what was sent.
# Each call is tried twice, with a pause between the tries.
_CALLS = 2
_TRIES = 2
_MAX_PAUSE_SECONDS = 1.0  # botocore's
_MAX_TRY_SECONDS, _MIN_TRY_SECONDS = 14.0, 0.5
#: The share of a try for connecting. The rest is the timeout between bytes.
_CONNECTING_SHARE = 2 / 7
_POOL_CONNECTIONS = 64


class _Connection(ConnectsInTime, AWSHTTPConnection):  # type: ignore[misc]
    """A connection to a store with many addresses, which share the timeout."""


class _TLSConnection(ConnectsInTime, AWSHTTPSConnection):  # type: ignore[misc]
    """The same over TLS."""


class _Pool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Connection


class _TLSPool(AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _TLSConnection


def make_client(deadline_seconds: float) -> Any:
    """Return a client whose waits fit into a request's deadline. It connects on first use. Thread-safe."""
    seconds = (deadline_seconds / _CALLS - _MAX_PAUSE_SECONDS) / _TRIES
    seconds = max(_MIN_TRY_SECONDS, min(seconds, _MAX_TRY_SECONDS))
    client = boto3.client(
        "s3",
        config=Config(
            connect_timeout=seconds * _CONNECTING_SHARE,
            read_timeout=seconds * (1 - _CONNECTING_SHARE),
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            max_pool_connections=_POOL_CONNECTIONS,
            # Many S3-compatible stores don't support the checksums that newer clients add by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    # A store that never sends "100 Continue" would delay each write, and all our bodies are in memory already.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    # botocore has no public way to set this; a test fails if its internals change.
    client._endpoint.http_session._pool_classes_by_scheme.update(http=_Pool, https=_TLSPool)
    return client
