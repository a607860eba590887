"""Straight to the gateway: answers that come while the body is on its way arrive."""

from tests.support.early_clients.early_responses import EarlyResponses


class TestDirect(EarlyResponses):
    nginx = None
