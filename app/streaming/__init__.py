"""Bytes on their way through: reading a request body safely, and re-composing multipart messages.

What relies on the inside of gunicorn or glibc stands alone here, is feature-checked and falls back; correctness never
depends on it.
"""
