"""Behind an nginx that takes the whole body before it tells the gateway of it: early answers arrive."""

from tests.support.early_clients.early_answers import EarlyAnswers


class TestBuffered(EarlyAnswers):
    nginx = {"request_buffering": True}  # noqa: RUF012 - nobody changes it
