"""The calls that the retry and fault tests play; those of a sign-in are made once and tested in tests/api."""

from app.clients.retry import Call

SERVICE_CALLS = [call for call in Call if call is not Call.SIGN_IN]
