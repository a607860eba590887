"""The stand-in for the File Access Agent: serves files by object key, to services and to browsers.

- `app` has the routes, checks access, and handles ranges and conditions
- `objects` finds the file of a key
"""
