"""Evaluate the preconditions of GET and HEAD requests, in the order of RFC 9110, section 13.2.2.

werkzeug's `make_conditional` takes `If-Match: *` for a failure and sends the whole body with its 412, and
`is_resource_modified` does not tell a failed If-Match from an unchanged copy: a download would end in an empty 304.
"""

from datetime import datetime
from http import HTTPStatus

from flask import Response, request

from app.errors import PreconditionFailedError


def is_unchanged(entity_tag: str, last_modified: datetime | None = None) -> bool:
    """Return whether the caller already has this version, so that the response is 304.

    `entity_tag` is strong and without its quotation marks; `last_modified` is the value of that header, if it is sent.
    Raises PreconditionFailedError if the caller demands another version.
    """
    environ = request.environ
    if "HTTP_IF_MATCH" in environ:
        if not request.if_match.contains(entity_tag):
            raise PreconditionFailedError("If-Match")
    # HTTP dates have whole seconds. werkzeug returns None for an invalid one, which is then ignored.
    elif (
        last_modified is not None
        and (limit := request.if_unmodified_since) is not None
        and last_modified.replace(microsecond=0) > limit
    ):
        raise PreconditionFailedError("If-Unmodified-Since")
    if "HTTP_IF_NONE_MATCH" in environ:
        return request.if_none_match.contains_weak(entity_tag)
    if last_modified is None:
        return False
    since = request.if_modified_since
    return since is not None and last_modified.replace(microsecond=0) <= since


def conditional(response: Response, entity_tag: str) -> Response:
    """Give the response its ETag, and make it a 304 if the caller's copy is current.

    Raises PreconditionFailedError like `is_unchanged`.
    """
    response.set_etag(entity_tag)
    if is_unchanged(entity_tag):
        response.status_code = HTTPStatus.NOT_MODIFIED
    return response
