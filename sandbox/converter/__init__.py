"""The stand-in for the converter: it accepts a model, waits as if it converted it, and promotes a result.

- `app` has the routes
- `uploads` reads a multipart body as it arrives, and logs every upload
- `progress` computes a job's state from the time
- `jobs` stores jobs on disk
- `results` makes each result once
"""
