"""Request bodies and multipart messages on their way through: bytes, parts, digests, limits."""

#: Some bytes of a stream. A view is lent: it shows a buffer that the next chunk overwrites, so copy what is needed for
#: longer than that.
Chunk = bytes | memoryview

#: Chunks of less than this are copied out of a lent buffer: it costs little, and the receiver may hold them.
LENT_FROM_BYTES = 64 * 1024
