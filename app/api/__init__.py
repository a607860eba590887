"""The edge: routes, sessions, refusals and responses."""
