"""Which storage a URL names."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.library.local import LocalStorage
from app.library.storage import SweepableStorage


def open_storage(url: str, *, deadline_seconds: float = 60.0) -> SweepableStorage:
    """The storage that `file:///absolute/folder` or `s3://bucket/prefix` names. Connects to nothing.

    Where the storage is remote, its waits fit into a request's deadline.

    Raises ValueError for other URLs, and RuntimeError if boto3 is needed and not installed.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        # Not `parts.path`: a folder may have # or ? in its name.
        return LocalStorage(Path(unquote(url.removeprefix("file://"))))
    if parts.scheme == "s3" and parts.netloc:
        from app.library.s3 import S3Storage  # noqa: PLC0415 - boto3 is an extra

        return S3Storage(parts.netloc, parts.path.strip("/"), deadline_seconds=deadline_seconds)
    raise ValueError("the storage URL must be file:///absolute/folder or s3://bucket/prefix")
