"""How the gateway runs in gunicorn: the worker, its drain, and the end of connections.

Only this package and gunicorn.conf.py know gunicorn.
"""
