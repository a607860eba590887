"""The failure tree: every way in which the gateway says no.

    GatewayError
    ├── BadHostError, UnauthenticatedError, CrossSiteRequestError, NavigationRequiredError
    ├── SignInFailedError
    │   └── StaleSignInError                  the same outside, unless a session shows that it succeeded before
    ├── NotFoundError, MethodNotAllowedError, ConversionDisabledError
    ├── JobNotFoundError
    │   └── OwnershipMismatchError            the same outside; the log tells them apart
    ├── ModelNotFoundError
    ├── ActiveJobConflictError, UploadInProgressError, JobNotCompletedError, JobFailedError, LibraryFullError
    ├── InvalidRequestError, PayloadTooLargeError, RangeNotSatisfiableError
    ├── UnsupportedMediaTypeError
    │   └── UnsupportedContentEncodingError
    ├── PreconditionFailedError, TooManyRequestsError
    ├── UploadTimeoutError, UploadCapacityError, DrainingError
    ├── ConverterRejectedError, ConverterBusyError, ConverterUnavailableError, UploadOutcomeUnknownError
    ├── PromoteFailedError, FileServiceUnavailableError, ResultMissingError, ResultCorruptError
    ├── IDPMisconfiguredError
    │   └── ServiceClientUnauthorizedError
    ├── IDPUnavailableError, DownloadTokenFailedError, MCTokenUnavailableError
    ├── StorageUnavailableError
    │   └── StorageMismatchError              the same outside; `/readyz` tells them apart
    ├── ModelStoreUnavailableError
    └── DeadlineExceededError, InternalError

A failure names its catalogue code; status, texts, blame and retryability are the catalogue's. What is written into
`reason` goes to the log and never to the caller.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from app.errors.catalogue import Entry, catalogue


class GatewayError(Exception):
    """Root of the tree; raise one of the subclasses.

    `reason` is for the log only. `retry_after_seconds` becomes a Retry-After header. `extensions` become further
    members of the problem document (RFC 9457, section 3.2). `texts` fill the placeholders of the detail text.
    """

    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        reason: str = "",
        *,
        retry_after_seconds: float | None = None,
        extensions: Mapping[str, Any] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason or self.code)
        self.reason = reason
        self.retry_after_seconds = (
            self.entry.retry_after_seconds if retry_after_seconds is None else retry_after_seconds
        )
        self.extensions: Mapping[str, Any] = dict(extensions or {})
        self.texts: Mapping[str, str] = dict(texts or {})

    def __copy__(self) -> Self:
        """Return a copy without the traceback. `copy` alone calls the class with `args`, which some do not take."""
        twin = type(self).__new__(type(self), *self.args)
        vars(twin).update(vars(self))
        return twin

    @property
    def entry(self) -> Entry:
        """What the catalogue says of this failure."""
        return catalogue()[self.code]


class BadHostError(GatewayError):
    """The Host header names a host that is not ours."""

    code = "bad_host"


class UnauthenticatedError(GatewayError):
    """There is no valid session."""

    code = "unauthenticated"


class SignInFailedError(GatewayError):
    """The OIDC callback could not be completed, for whatever cause."""

    code = "sign_in_failed"


class StaleSignInError(SignInFailedError):
    """A callback came again, or too late: its state or its code is used up or has expired."""


class CrossSiteRequestError(GatewayError):
    """An unsafe method was asked for by a page of another site."""

    code = "cross_site_request"


class NavigationRequiredError(GatewayError):
    """A download or a sign-in was asked for by a script or a prefetch instead of a navigation."""

    code = "navigation_required"


class NotFoundError(GatewayError):
    """No route has this path."""

    code = "not_found"


class MethodNotAllowedError(GatewayError):
    """The route does not take this method; `allowed` becomes the Allow header."""

    code = "method_not_allowed"

    def __init__(self, reason: str = "", *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.allowed = allowed


class ConversionDisabledError(GatewayError):
    """Converter and FAA are not configured."""

    code = "conversion_disabled"


class JobNotFoundError(GatewayError):
    """The caller has no such job: it is absent, or its id is malformed."""

    code = "job_not_found"


class OwnershipMismatchError(JobNotFoundError):
    """The job exists and is somebody else's. Outside this is the same as JobNotFoundError."""


class ModelNotFoundError(GatewayError):
    """The caller's library has no such model."""

    code = "model_not_found"


class ActiveJobConflictError(GatewayError):
    """The caller already has a running job; pass it as the extension `active_job` where it is known."""

    code = "active_job_conflict"


class UploadInProgressError(GatewayError):
    """The caller is already uploading, in whichever worker."""

    code = "upload_in_progress"


class JobNotCompletedError(GatewayError):
    """A result was asked for before the job has completed."""

    code = "job_not_completed"


class JobFailedError(GatewayError):
    """A result was asked for of a job that failed or was cancelled; carries the job's own error as `job_error`."""

    code = "job_failed"


class LibraryFullError(GatewayError):
    """The model would take the user's library over its quota; nothing is stored. Carries `quota_bytes`."""

    code = "library_full"

    def __init__(self, quota_bytes: int) -> None:
        super().__init__("over the library's quota", extensions={"quota_bytes": quota_bytes})


class InvalidRequestError(GatewayError):
    """The request cannot be understood; `problem` is a short phrase for the caller."""

    code = "invalid_request"

    def __init__(self, problem: str) -> None:
        super().__init__(problem, texts={"problem": problem})


class UnsupportedMediaTypeError(GatewayError):
    """A body is no form, or that of an upload is not multipart/form-data."""

    code = "unsupported_media_type"


class UnsupportedContentEncodingError(UnsupportedMediaTypeError):
    """A request has a Content-Encoding. The answer names `identity` in Accept-Encoding (RFC 9110, section 12.5.3)."""


class PayloadTooLargeError(GatewayError):
    """A limit on sizes or counts is exceeded; `limit` is a short phrase for the caller."""

    code = "payload_too_large"

    def __init__(self, limit: str) -> None:
        super().__init__(limit, texts={"limit": limit})


class PreconditionFailedError(GatewayError):
    """The thing is not the version that If-Match or If-Unmodified-Since asks for (RFC 9110, section 13.1)."""

    code = "precondition_failed"


class RangeNotSatisfiableError(GatewayError):
    """No byte of the asked-for range exists (RFC 9110, section 14.4); `size` is the file's, in bytes."""

    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"the file has {size} bytes")
        self.size = size


class TooManyRequestsError(GatewayError):
    """The user already has as many requests or transfers in progress as one user may have."""

    code = "too_many_requests"


class UploadTimeoutError(GatewayError):
    """The client sent nothing for too long, or less than the minimum rate."""

    code = "upload_timeout"


class UploadCapacityError(GatewayError):
    """No place for a long transfer is free in this worker."""

    code = "upload_capacity"


class DrainingError(GatewayError):
    """The server is shutting down and takes no new uploads."""

    code = "draining"


class ConverterRejectedError(GatewayError):
    """The converter refused an upload (400 or 422); its own code and message are passed on, bounded, as text."""

    code = "converter_rejected"

    def __init__(self, upstream_code: str, upstream_message: str) -> None:
        super().__init__(
            f"the converter refused: {upstream_code}",
            extensions={"upstream_code": upstream_code, "upstream_message": upstream_message},
            texts={"upstream_message": upstream_message},
        )


class ConverterBusyError(GatewayError):
    """The converter answered 429."""

    code = "converter_busy"


class ConverterUnavailableError(GatewayError):
    """The converter cannot be reached, answers 5xx, or answers something unusable. No job was started."""

    code = "converter_unavailable"


class UploadOutcomeUnknownError(GatewayError):
    """A whole upload got no answer that says whether a job started, and the converter's list does not show one."""

    code = "upload_outcome_unknown"


class PromoteFailedError(GatewayError):
    """The converter would not promote a completed job, or named no usable object key."""

    code = "promote_failed"


class FileServiceUnavailableError(GatewayError):
    """The FAA cannot be reached, answers 5xx or 429, or something unusable."""

    code = "file_service_unavailable"


class ResultMissingError(GatewayError):
    """The FAA has no file under the key that the converter named."""

    code = "result_missing"


class ResultCorruptError(GatewayError):
    """Size or SHA-256 of the pulled result differ from what was announced; nothing is stored."""

    code = "result_corrupt"


class IDPMisconfiguredError(GatewayError):
    """The token endpoint refuses our request as such: the configuration is wrong."""

    code = "idp_misconfigured"


class ServiceClientUnauthorizedError(IDPMisconfiguredError):
    """Our service client, or the token that it got, is refused (401 or 403)."""


class IDPUnavailableError(GatewayError):
    """The token endpoint cannot be reached, answers 5xx, 429 or something unusable, or revoked a token that we kept."""

    code = "idp_unavailable"


class DownloadTokenFailedError(GatewayError):
    """MC refuses to mint this download token."""

    code = "download_token_failed"


class MCTokenUnavailableError(GatewayError):
    """MC's download-token endpoint cannot be reached, answers 5xx or 429, or something unusable."""

    code = "mc_token_unavailable"


class StorageUnavailableError(GatewayError):
    """Our own file storage failed, for example because the disk is full."""

    code = "storage_unavailable"


class StorageMismatchError(StorageUnavailableError):
    """The storage belongs to another library than the database. `/readyz` calls it `storage_mismatch`."""


class ModelStoreUnavailableError(GatewayError):
    """Our own database failed."""

    code = "model_store_unavailable"


class DeadlineExceededError(GatewayError):
    """The time that this request has for control calls is spent."""

    code = "deadline_exceeded"


class InternalError(GatewayError):
    """A bug of ours."""

    code = "internal_error"
