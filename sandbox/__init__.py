"""Runnable stand-ins for the three services that the gateway talks to: Member Center, converter, File Access Agent.

They are real HTTP servers that keep the upstream contracts (DESIGN.md, section 3), so that the gateway can be run,
tried by hand and tested on one machine. They are not those services: nothing here is hardened, converts a model, or
shares code with the gateway. `sandbox/README.md` says how to use them; all that a test controls is under `/_sandbox/`.
"""
