"""Two replicas of the gateway on one PostgreSQL and one S3 server, behind nginx.

    with Cluster(tmp_path, postgresql, s3_server) as cluster:
        alice = cluster.wandering(cluster.client(), random.Random(1)).sign_in("alice")

A test may stop and start each of `cluster.replicas`.
"""

import random
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool

from tests.support.clients import Client
from tests.support.postgresql import PostgreSQL
from tests.support.replica import Replica
from tests.support.s3_server import S3Server
from tests.support.scaled_stack import ScaledStack
from tests.support.stores import ServerStores


class Cluster(ScaledStack):
    """A stack of two replicas with two workers each. People reach both through nginx, or choose one themselves."""

    def __init__(self, directory: Path, postgresql: PostgreSQL, s3_server: S3Server, **options: Any) -> None:
        """Start everything. `options` are those of a stack."""
        defaults = {"application": "wsgi:app", "workers": 2, "replicas": 2, "nginx": {}}
        super().__init__(directory, stores=ServerStores(postgresql, s3_server), **{**defaults, **options})

    def wandering(self, client: Client, draw: random.Random) -> Client:
        """Send each request of a client to a replica that is drawn, past nginx. Return the client."""
        client.mount(self.url, _DrawnReplica(self.replicas, draw))
        return client

    def bound(self, client: Client, replica: Replica) -> Client:
        """Send all requests of a client to one replica, past nginx. Return the client."""
        client.mount(self.url, _DrawnReplica([replica], random.Random(0)))
        return client


class _DrawnReplica(HTTPAdapter):
    """Connects to a replica that is drawn for each request, under the public name of all of them."""

    def __init__(self, replicas: list[Replica], draw: random.Random) -> None:
        super().__init__()
        self._replicas = replicas
        self._draw = draw

    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        # A copy, for a redirect to another server would take the header along.
        request = request.copy()
        request.headers["Host"] = urlsplit(request.url or "").netloc
        return super().send(request, *arguments, **options)

    def get_connection_with_tls_context(self, *_arguments: Any, **_options: Any) -> HTTPConnectionPool:
        pool: HTTPConnectionPool = self.poolmanager.connection_from_url(self._draw.choice(self._replicas).url)
        return pool
