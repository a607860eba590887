"""Behind nginx as it is deployed, which passes a body on as it comes: early answers arrive."""

from tests.support.early_clients.early_answers import EarlyAnswers


class TestStreamed(EarlyAnswers):
    nginx = {"request_buffering": False}  # noqa: RUF012 - nobody changes it
