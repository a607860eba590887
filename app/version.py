"""Which version of the gateway this is. Stated here and nowhere else; `setup.cfg` reads it."""

VERSION = "0.1.0"
