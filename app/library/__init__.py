"""What the gateway keeps: job ledger, leases, signed-out sessions and model records in a database, files in a storage.

`database` reaches SQLite or PostgreSQL, `tables` says what stands in it, `migrating` brings it there. `ledger`,
`leases`, `sessions` and `models` implement the ports of the services on it; `storage` (a folder) and `s3` (a bucket)
hold the files. `pairing` tells whether the two belong together, `quarantine` keeps what a sweep sets aside. Nothing
here knows HTTP, an upstream or why a record is kept.
"""
