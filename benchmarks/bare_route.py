"""A route that does nothing: the cost of Flask and gunicorn alone. It returns the file BENCH_ANSWER."""

import json
import os
from pathlib import Path
from typing import Any

from flask import Flask

app = Flask(__name__)
_RESPONSE = json.loads(Path(os.environ["BENCH_ANSWER"]).read_text(encoding="utf-8"))


@app.get("/job")
def job() -> dict[str, Any]:
    """Return the same JSON as a poll, encoded for each request."""
    return dict(_RESPONSE)
