"""What a stream is made of on its way from the client to the converter."""

#: Some bytes. A view is lent: it shows a buffer which is written anew when the next chunk is asked for, so whoever
#: wants to keep its bytes beyond that copies them.
Chunk = bytes | memoryview

#: Less than this is copied out of a lent buffer: a chunk that others may keep is worth more than the copy then.
LENT_FROM_BYTES = 64 * 1024
