"""Behind nginx as it is deployed, which passes a body on as it comes: early responses arrive."""

from tests.support.early_clients.early_responses import EarlyResponses


class TestStreamed(EarlyResponses):
    nginx = {"request_buffering": False}  # noqa: RUF012 - nobody changes it
