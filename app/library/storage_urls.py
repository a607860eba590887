"""Which storage a URL names."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.library.local import LocalStorage
from app.library.storage import FileStorage


def open_storage(url: str, *, deadline_seconds: float = 60.0) -> FileStorage:
    """Return the storage that `file:///absolute/folder` or `s3://bucket/prefix` names. Connects to nothing.

    The waits for a remote storage fit into a request's deadline. Raises ValueError for other URLs, and RuntimeError if
    boto3 is needed and not installed.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        # Not `parts.path`: a folder may have # or ? in its name.
        return LocalStorage(Path(unquote(url.removeprefix("file://"))))
    if parts.scheme == "s3" and parts.netloc:
        try:
            from app.library.s3 import S3Storage  # noqa: PLC0415 - boto3 is an extra
        except ModuleNotFoundError:
            raise RuntimeError(
                "an s3:// storage needs boto3: pip install --require-hashes -r requirements-s3.txt"
            ) from None
        return S3Storage(parts.netloc, parts.path.strip("/"), deadline_seconds=deadline_seconds)
    raise ValueError("the storage URL must be file:///absolute/folder or s3://bucket/prefix")
