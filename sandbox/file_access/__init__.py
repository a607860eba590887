"""The stand-in for the File Access Agent: serves files by object key, to services and to browsers.

- `app` routes, access, and HTTP's rules for ranges and conditions
- `objects` which file a key names
"""
