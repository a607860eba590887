"""Runnable stand-ins for the three services that the gateway talks to: Member Center, converter, File Access Agent.

They are real HTTP servers that keep the contracts of docs/upstreams.md, so that the gateway can be run and tested on
one machine. They are not those services: nothing here is hardened, converts a model, or shares code with the gateway.
`sandbox/README.md` explains how to use them. Tests control them under `/_sandbox/`.
"""
