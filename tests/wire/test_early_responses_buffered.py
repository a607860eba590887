"""Behind an nginx that takes the whole body before it tells the gateway of it: early responses arrive."""

from tests.support.early_clients.early_responses import EarlyResponses


class TestBuffered(EarlyResponses):
    nginx = {"request_buffering": True}  # noqa: RUF012 - nobody changes it
