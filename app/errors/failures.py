"""The tree of failures that callers can see.

    GatewayError
    ├── BadHostError, UnauthenticatedError, CrossSiteRequestError, NavigationRequiredError
    ├── SignInFailedError
    │   └── StaleSignInError                  not shown if the session proves that it succeeded before
    ├── NotFoundError, MethodNotAllowedError, ConversionDisabledError
    ├── JobNotFoundError
    │   └── OwnershipMismatchError            the same for callers; the log tells them apart
    ├── ModelNotFoundError
    ├── ActiveJobConflictError, UploadInProgressError, JobNotCompletedError, JobFailedError, LibraryFullError
    ├── InvalidRequestError, PayloadTooLargeError, RangeNotSatisfiableError
    ├── UnsupportedMediaTypeError
    │   └── UnsupportedContentEncodingError
    ├── PreconditionFailedError, TooManyRequestsError
    ├── UploadNotFoundError, UploadCompleteError, UploadEndedError
    ├── UploadTimeoutError, UploadCapacityError, DrainingError
    ├── ConverterRejectedError, ConverterBusyError, ConverterUnavailableError, UploadOutcomeUnknownError
    ├── PromoteFailedError, FileServiceUnavailableError, ResultMissingError, ResultCorruptError
    ├── IDPMisconfiguredError
    │   └── ServiceClientUnauthorizedError
    ├── IDPUnavailableError, DownloadTokenFailedError, MCTokenUnavailableError
    ├── StorageUnavailableError
    │   └── StorageMismatchError              the same for callers; `/readyz` tells them apart
    ├── ModelStoreUnavailableError
    └── DeadlineExceededError, InternalError

A failure names its code. The catalog has the status, the texts, `blame` and `retryable`. `reason` goes to the log and
never to the caller.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from app.errors.catalogue import Entry, Phrase, catalogue


class GatewayError(Exception):
    """Root of the tree. Raise one of the subclasses.

    `reason` is for the log only. `retry_after_seconds` becomes the Retry-After header; None means the catalog's value.
    `extensions` become further members of the problem document (RFC 9457, section 3.2). `texts` fill the placeholders
    of the detail text.
    """

    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        reason: str = "",
        *,
        retry_after_seconds: float | None = None,
        extensions: Mapping[str, Any] | None = None,
        texts: Mapping[str, Phrase] | None = None,
    ) -> None:
        super().__init__(reason or self.code)
        self.reason = reason
        self.retry_after_seconds = (
            self.entry.retry_after_seconds if retry_after_seconds is None else retry_after_seconds
        )
        self.extensions: Mapping[str, Any] = dict(extensions or {})
        self.texts: Mapping[str, Phrase] = dict(texts or {})

    def __copy__(self) -> Self:
        """Return a copy without the traceback. By default, `copy` calls the class with `args`, which can fail."""
        twin = type(self).__new__(type(self), *self.args)
        vars(twin).update(vars(self))
        return twin

    @property
    def entry(self) -> Entry:
        """The catalog's entry for this failure."""
        return catalogue()[self.code]


class BadHostError(GatewayError):
    """The Host header names another host."""

    code = "bad_host"


class UnauthenticatedError(GatewayError):
    """There is no valid session."""

    code = "unauthenticated"


class SignInFailedError(GatewayError):
    """The OIDC callback could not be completed."""

    code = "sign_in_failed"


class StaleSignInError(SignInFailedError):
    """The callback was repeated or came too late: its state or code is used up or has expired."""


class CrossSiteRequestError(GatewayError):
    """A page of another site sent a request with an unsafe method."""

    code = "cross_site_request"


class NavigationRequiredError(GatewayError):
    """A script or a prefetch requested a download or a sign-in, which need a navigation."""

    code = "navigation_required"


class NotFoundError(GatewayError):
    """No route has this path."""

    code = "not_found"


class MethodNotAllowedError(GatewayError):
    """The route does not support this method; `allowed` becomes the Allow header."""

    code = "method_not_allowed"

    def __init__(self, reason: str = "", *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.allowed = allowed


class ConversionDisabledError(GatewayError):
    """Converter and FAA are not configured."""

    code = "conversion_disabled"


class JobNotFoundError(GatewayError):
    """The caller has no such job, or its id is malformed."""

    code = "job_not_found"


class OwnershipMismatchError(JobNotFoundError):
    """The job belongs to another user. Callers see the same as for JobNotFoundError."""


class ModelNotFoundError(GatewayError):
    """The caller's library has no such model."""

    code = "model_not_found"


class ActiveJobConflictError(GatewayError):
    """The caller already has a running job. Pass it as the extension `active_job` if it is known."""

    code = "active_job_conflict"


class UploadInProgressError(GatewayError):
    """The caller is already uploading, to this or another worker."""

    code = "upload_in_progress"


class UploadNotFoundError(GatewayError):
    """The caller has no running upload with this id."""

    code = "upload_not_found"


class UploadCompleteError(GatewayError):
    """The upload cannot be ended any more: its last byte has been sent to the converter."""

    code = "upload_complete"


class UploadEndedError(GatewayError):
    """The upload was ended by another request of its user. No job was started."""

    code = "upload_ended"


class JobNotCompletedError(GatewayError):
    """The job has no result yet."""

    code = "job_not_completed"


class JobFailedError(GatewayError):
    """The job failed or was canceled, so it has no result. Carries the job's own error as `job_error`."""

    code = "job_failed"


class LibraryFullError(GatewayError):
    """The model would exceed the user's quota; nothing is stored. Carries `quota_bytes`."""

    code = "library_full"

    def __init__(self, quota_bytes: int) -> None:
        super().__init__("the library's quota is exceeded", extensions={"quota_bytes": quota_bytes})


class InvalidRequestError(GatewayError):
    """The request is not valid; `problem` is a short phrase for the caller.

    Pass it in Chinese too if users of the console can see it.
    """

    code = "invalid_request"

    def __init__(self, problem: str, *, zh_tw: str | None = None) -> None:
        super().__init__(problem, texts={"problem": {"en": problem, "zh-TW": zh_tw or problem}})


class UnsupportedMediaTypeError(GatewayError):
    """A body is not a form, or that of an upload is not multipart/form-data."""

    code = "unsupported_media_type"


class UnsupportedContentEncodingError(UnsupportedMediaTypeError):
    """A request has a Content-Encoding. The response has `Accept-Encoding: identity` (RFC 9110, section 12.5.3)."""


class PayloadTooLargeError(GatewayError):
    """A limit on sizes or counts is exceeded; `limit` is a short phrase for the caller.

    Pass it in Chinese too if users of the console can see it.
    """

    code = "payload_too_large"

    def __init__(self, limit: str, *, zh_tw: str | None = None) -> None:
        super().__init__(limit, texts={"limit": {"en": limit, "zh-TW": zh_tw or limit}})


class PreconditionFailedError(GatewayError):
    """The resource is not the version in If-Match or If-Unmodified-Since (RFC 9110, section 13.1)."""

    code = "precondition_failed"


class RangeNotSatisfiableError(GatewayError):
    """The requested range is outside the file (RFC 9110, section 14.4); `size` is the file's, in bytes."""

    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"the file has {size} bytes")
        self.size = size


class TooManyRequestsError(GatewayError):
    """The user has reached the limit of concurrent requests or transfers."""

    code = "too_many_requests"


class UploadTimeoutError(GatewayError):
    """The client sent nothing for too long, or less than the minimum rate."""

    code = "upload_timeout"


class UploadCapacityError(GatewayError):
    """No slot for a long transfer is free in this worker."""

    code = "upload_capacity"


class DrainingError(GatewayError):
    """The server is shutting down, and the upload was not complete when it had to end."""

    code = "draining"


class ConverterRejectedError(GatewayError):
    """The converter refused an upload (400 or 422). Its code and message are passed on as text of limited length."""

    code = "converter_rejected"

    def __init__(self, upstream_code: str, upstream_message: str) -> None:
        super().__init__(
            f"the converter refused: {upstream_code}",
            extensions={"upstream_code": upstream_code, "upstream_message": upstream_message},
            texts={"upstream_message": upstream_message},
        )


class ConverterBusyError(GatewayError):
    """The converter returned 429."""

    code = "converter_busy"


class ConverterUnavailableError(GatewayError):
    """The converter cannot be reached, or returned 5xx or an invalid response. No job was started."""

    code = "converter_unavailable"


class UploadOutcomeUnknownError(GatewayError):
    """A complete upload got no usable response, and the converter's list shows no new job."""

    code = "upload_outcome_unknown"


class PromoteFailedError(GatewayError):
    """The converter did not promote a completed job, or returned no usable object key."""

    code = "promote_failed"


class FileServiceUnavailableError(GatewayError):
    """The FAA cannot be reached, or returned 5xx, 429 or an invalid response."""

    code = "file_service_unavailable"


class ResultMissingError(GatewayError):
    """The FAA has no file under the converter's object key."""

    code = "result_missing"


class ResultCorruptError(GatewayError):
    """The size or SHA-256 of the pulled result is not the announced one; nothing is stored."""

    code = "result_corrupt"


class IDPMisconfiguredError(GatewayError):
    """The token endpoint refuses the gateway's request: the configuration is wrong."""

    code = "idp_misconfigured"


class ServiceClientUnauthorizedError(IDPMisconfiguredError):
    """The service client or its token is refused (401 or 403)."""


class IDPUnavailableError(GatewayError):
    """MC cannot be reached, returned 5xx, 429 or an invalid response, or revoked a cached token."""

    code = "idp_unavailable"


class DownloadTokenFailedError(GatewayError):
    """MC refuses to issue this download token."""

    code = "download_token_failed"


class MCTokenUnavailableError(GatewayError):
    """MC's download-token endpoint cannot be reached, or returned 5xx, 429 or an invalid response."""

    code = "mc_token_unavailable"


class StorageUnavailableError(GatewayError):
    """The gateway's file storage failed, for example because the disk is full."""

    code = "storage_unavailable"


class StorageMismatchError(StorageUnavailableError):
    """The storage belongs to another library than the database. `/readyz` shows `storage_mismatch`."""


class ModelStoreUnavailableError(GatewayError):
    """The gateway's database failed."""

    code = "model_store_unavailable"


class DeadlineExceededError(GatewayError):
    """The request's time for control calls is used up."""

    code = "deadline_exceeded"


class InternalError(GatewayError):
    """A bug in the gateway."""

    code = "internal_error"
