"""What the gateway stores: job ledger, leases, signed-out sessions and model records in a database, files in a storage.

`database` connects to SQLite or PostgreSQL, `tables` describes the schema, `migrating` creates it. `ledger`, `leases`,
`sessions` and `models` implement the ports of the services on it. `storage` stores files, in a folder (`local`) or in a
bucket (`s3`). `pairing` checks that the two belong together, `quarantine` holds what a sweep has found. Nothing here
knows HTTP, an upstream, or why a record is stored.
"""
