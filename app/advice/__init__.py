"""Tell from a model's structure, before it is converted, which of the five chips it fits.

`skeleton` cuts a model's file down to its structure while the bytes pass by, `description` reads that structure, and
`verdicts` compares it with the table of the toolchain. Everything here is pure: no I/O, no clock, no state.
"""
