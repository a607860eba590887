"""The corpus: every message that is tried in process and over sockets."""

from typing import Final

from tests.corpus import claims, clients, framing, headers
from tests.corpus.case import Case

CASES: Final[list[Case]] = [*claims.CASES, *framing.CASES, *headers.CASES, *clients.CASES]
