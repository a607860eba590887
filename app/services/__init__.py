"""What the gateway does: conversions and the model library, free of HTTP frameworks and of SQL."""
