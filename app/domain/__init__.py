"""Rules and values that hold whatever the framework, the database or the upstream: standard library only."""
