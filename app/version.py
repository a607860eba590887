"""The version of the gateway (Semantic Versioning). `setup.cfg` reads it from here; CHANGELOG.md describes it."""

VERSION = "1.0.0"
