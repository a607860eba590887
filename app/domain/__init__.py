"""Rules and values that depend on no framework, database or upstream: standard library only."""
