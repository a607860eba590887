"""Conditional requests (RFC 9110, section 13): a caller who wants another version gets a 412 without any bytes."""

import pytest

from app.console.assets import VERSION
from tests.api.edge import Edge
from tests.api.test_models import CONTENT, keep

FILE = "/api/models/model-1/file"
#: Everything that has an ETag.
TAGGED = (
    "/openapi.json",
    "/console/errors.json",
    f"/console/{VERSION}/css/base.css",
    "/api/conversion/job-1",
    "/api/conversion/capabilities",
    FILE,
)
EARLIER, LATER = "Sun, 22 Nov 2026 12:00:00 GMT", "Tue, 24 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize("path", TAGGED)
def test_if_match_is_honoured_wherever_there_is_an_etag(edge: Edge, path: str) -> None:
    """The right tag and `*` get the resource; another tag gets 412 with a problem document and none of its bytes."""
    keep(edge)
    whole = edge.client().get(path, buffered=True)
    tag = whole.headers["ETag"]
    for asked in (tag, "*", f'"other", {tag}'):
        response = edge.client().get(path, headers={"If-Match": asked}, buffered=True)
        assert (response.status_code, response.data) == (200, whole.data), asked
    # Weak tags never match here (RFC 9110, section 13.1.1).
    for asked in ('"other"', f"W/{tag}"):
        response = edge.client().get(path, headers={"If-Match": asked, "If-None-Match": tag})
        assert (response.status_code, response.mimetype) == (412, "application/problem+json"), asked
        assert response.get_json()["code"] == "precondition_failed"
        assert "ETag" not in response.headers


@pytest.mark.parametrize("path", TAGGED)
def test_a_current_copy_is_not_sent_again(edge: Edge, path: str) -> None:
    """Tags are compared weakly, and also if If-Match agrees."""
    keep(edge)
    tag = edge.client().get(path).headers["ETag"]
    for asked in (tag, f"W/{tag}", "*"):
        response = edge.client().get(path, headers={"If-None-Match": asked, "If-Match": tag})
        assert (response.status_code, response.data, response.headers["ETag"]) == (304, b"", tag), asked
    assert edge.client().get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_dates_decide_about_a_file_if_there_are_no_tags(edge: Edge) -> None:
    """If-Unmodified-Since refuses a newer file, unless there is an If-Match; an invalid date is ignored."""
    model = keep(edge)
    at = edge.client().get(FILE).headers["Last-Modified"]
    for headers, status in (
        ({"If-Unmodified-Since": EARLIER}, 412),
        ({"If-Unmodified-Since": EARLIER, "Range": "bytes=0-1"}, 412),
        ({"If-Unmodified-Since": at}, 200),
        ({"If-Unmodified-Since": LATER}, 200),
        ({"If-Unmodified-Since": "yesterday"}, 200),
        ({"If-Unmodified-Since": EARLIER, "If-Match": f'"{model.sha256}"'}, 200),
        ({"If-Modified-Since": LATER}, 304),
        ({"If-Modified-Since": EARLIER}, 200),
        ({"If-Modified-Since": LATER, "If-None-Match": '"other"'}, 200),
    ):
        response = edge.client().get(FILE, headers=headers)
        assert response.status_code == status, headers
        if status == 200:
            assert response.data == CONTENT


def test_a_range_of_another_version_is_refused(edge: Edge) -> None:
    """A resumed download gets no bytes of another file."""
    keep(edge)
    assert edge.client().get(FILE, headers={"Range": "bytes=5-", "If-Match": '"other"'}).status_code == 412
    assert edge.client().get(FILE, headers={"Range": "bytes=5-", "If-Match": "*"}).data == CONTENT[5:]
