"""The stand-in for the converter: takes a model, lets time pass as if it converted it, and hands out a result.

- `app` routes
- `uploads` reading a multipart body as it arrives, and the log of every attempt
- `progress` a job's state as a function of time
- `jobs` jobs on disk
- `results` making the result, once
"""
