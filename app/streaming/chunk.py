"""What a stream is made of on its way from the client to the converter."""

#: Some bytes. A view is lent: it shows a buffer which is written anew when the next chunk is asked for, so whoever
#: wants to keep its bytes beyond that copies them.
Chunk = bytes | memoryview
