"""The edge: routes, sessions, refusals and answers. The only package that knows Flask."""
