"""The model library's routes, on a real database and real files."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.api.models import content_disposition
from app.config import LIBRARY_DOWNLOAD_SLOTS
from app.domain.model import Model
from app.services.transfers import TransferKind
from tests.api.edge import NOW, Edge

CONTENT = bytes(range(256)) * 40
MEMBERS = {
    "id", "name", "source_job_id", "platform", "model_id", "version", "filename", "size", "sha256", "created_at",
}  # fmt: skip


def keep(edge: Edge, number: int = 1, user_id: str = "alice", filename: str = "網路 a+b.nef") -> Model:
    """Store a model of the user's: record and file."""
    key = f"job-{number}/model-{number}"
    model = Model(
        f"model-{number}", user_id, f"job-{number}", f"net {number}", "720", filename, len(CONTENT),
        sha256(CONTENT).hexdigest(), "application/octet-stream", key, NOW + timedelta(seconds=number),
    )  # fmt: skip
    with edge.stores.storage.open_writer(key) as writer:
        writer.write(CONTENT)
        writer.commit()
    edge.stores.models.add(model)
    return model


def get_file(client: FlaskClient, **headers: str) -> TestResponse:
    return client.get("/api/models/model-1/file", headers={name.replace("_", "-"): v for name, v in headers.items()})


def test_the_library_is_listed_newest_first_in_pages(edge: Edge) -> None:
    for number in range(1, 6):
        keep(edge, number)
    keep(edge, 9, user_id="bob")
    client, seen, cursor = edge.client(), [], ""
    while cursor is not None:
        page = client.get(f"/api/models?limit=2&cursor={cursor}").get_json()
        seen += [model["id"] for model in page["models"]]
        cursor = page["next_cursor"]
    assert seen == ["model-5", "model-4", "model-3", "model-2", "model-1"]


def test_the_library_is_searched_by_name_and_chip(edge: Edge) -> None:
    for number in range(1, 6):
        keep(edge, number, filename="Größe.nef" if number % 2 else "other.nef")
    client = edge.client()

    def found(query: str) -> list[str]:
        return [model["id"] for model in client.get(f"/api/models?{query}").get_json()["models"]]

    assert found("q=GR%C3%96SSE") == []
    assert found("q=GR%C3%96%C3%9F") == ["model-5", "model-3", "model-1"]
    assert found("q=nEt+3&platform=720") == ["model-3"]
    assert found("platform=520") == []
    page = client.get("/api/models?q=Gr%C3%B6&limit=2").get_json()
    assert found(f"q=Gr%C3%B6&limit=2&cursor={page['next_cursor']}") == ["model-1"]
    for query in ("platform=0", f"q={'x' * 256}", "q=%0A"):
        assert client.get(f"/api/models?{query}").get_json()["code"] == "invalid_request"


def test_a_cursor_that_is_not_ours_is_refused(edge: Edge) -> None:
    for cursor in ("x", "%00", "YWJj", "a" * 400):
        response = edge.client().get(f"/api/models?cursor={cursor}")
        assert (response.status_code, response.get_json()["code"]) == (400, "invalid_request")


def test_a_model_shows_what_its_owner_may_see(edge: Edge) -> None:
    keep(edge)
    document = edge.client().get("/api/models/model-1").get_json()
    assert set(document) == MEMBERS
    assert document["created_at"] == "2026-11-23T12:00:01.000Z"


@pytest.mark.parametrize("model_id", ["model-1", "absent", "..", "a%2Fb", "x" * 129, "%00"])
def test_foreign_absent_and_malformed_models_are_one_404_on_every_verb(edge: Edge, model_id: str) -> None:
    keep(edge, user_id="bob")
    client = edge.client("alice")
    for method, path in (
        ("GET", f"/api/models/{model_id}"),
        ("PATCH", f"/api/models/{model_id}"),
        ("DELETE", f"/api/models/{model_id}"),
        ("GET", f"/api/models/{model_id}/file"),
    ):
        response = client.open(path, method=method, json={"name": "mine now"} if method == "PATCH" else None)
        reference = client.open(path.replace(model_id, "nothing"), method=method, json={"name": "mine now"})
        assert response.status_code == reference.status_code == 404
        ignored = {"request_id"}
        documents = [{k: v for k, v in a.get_json().items() if k not in ignored} for a in (response, reference)]
        assert documents[0] == documents[1]
    assert edge.client("bob").get("/api/models/model-1").status_code == 200


def test_a_model_is_renamed_by_its_owner(edge: Edge) -> None:
    keep(edge)
    response = edge.client().patch("/api/models/model-1", json={"name": "  新 的   名稱 "})
    assert (response.status_code, response.get_json()["name"]) == (200, "新 的 名稱")
    assert edge.client().get("/api/models/model-1").get_json()["name"] == "新 的 名稱"


@pytest.mark.parametrize("body", ['{"name": ""}', '{"name": 5}', "{}", "[]", "nonsense", '{"name": "a\\u0000"}', ""])
def test_a_name_that_cannot_be_shown_is_refused(edge: Edge, body: str) -> None:
    keep(edge)
    response = edge.client().patch("/api/models/model-1", data=body, content_type="application/json")
    assert (response.status_code, response.get_json()["code"]) == (400, "invalid_request")


def test_a_deleted_model_is_gone_with_its_file(edge: Edge) -> None:
    model = keep(edge)
    assert edge.client().delete("/api/models/model-1").status_code == 204
    assert edge.client().get("/api/models/model-1").status_code == 404
    assert edge.client().delete("/api/models/model-1").status_code == 404
    with pytest.raises(FileNotFoundError), edge.stores.storage.open_reader(model.storage_key):
        pass


def test_the_file_comes_whole_with_its_name(edge: Edge) -> None:
    keep(edge)
    response = get_file(edge.client())
    assert (response.status_code, response.data) == (200, CONTENT)
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]
    expected = "attachment; filename=\"__ a+b.nef\"; filename*=UTF-8''%E7%B6%B2%E8%B7%AF%20a+b.nef"
    assert response.headers["Content-Disposition"] == expected


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=5-9", 5, 10), ("bytes=10000-", 10_000, 10_240), ("bytes=-7", 10_233, 10_240),
     ("bytes=10239-99999", 10_239, 10_240), ("bytes=-99999", 0, 10_240)],
)  # fmt: skip
def test_a_range_is_that_part_of_the_file(edge: Edge, asked: str, start: int, end: int) -> None:
    keep(edge)
    response = get_file(edge.client(), Range=asked)
    assert response.data == CONTENT[start:end]
    if end - start < len(CONTENT):
        assert response.status_code == 206
        assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_outside_the_file_is_416(edge: Edge, asked: str) -> None:
    keep(edge)
    response = get_file(edge.client(), Range=asked)
    assert (response.status_code, response.get_json()["code"]) == (416, "range_not_satisfiable")
    assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "lines=0-1", "bytes=5-2", "bytes=a-b", "nonsense"])
def test_anything_but_a_single_range_of_bytes_gets_the_whole_file(edge: Edge, asked: str) -> None:
    """RFC 9110, section 14.2: an unsupported range is ignored."""
    keep(edge)
    assert get_file(edge.client(), Range=asked).data == CONTENT


def test_a_range_of_another_version_gets_the_whole_file(edge: Edge) -> None:
    keep(edge)
    etag = get_file(edge.client()).headers["ETag"]
    assert get_file(edge.client(), Range="bytes=0-1", If_Range=etag).status_code == 206
    assert get_file(edge.client(), Range="bytes=0-1", If_Range='"other"').data == CONTENT
    assert get_file(edge.client(), Range="bytes=0-1", If_Range=f"W/{etag}").data == CONTENT


def test_a_file_that_the_caller_has_is_not_sent_again(edge: Edge) -> None:
    keep(edge)
    etag = get_file(edge.client()).headers["ETag"]
    response = get_file(edge.client(), If_None_Match=etag)
    assert (response.status_code, response.data) == (304, b"")


def test_head_returns_the_size_and_takes_no_slot(edge: Edge) -> None:
    keep(edge)
    response = edge.client().head("/api/models/model-1/file")
    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["Content-Length"] == str(len(CONTENT))


def test_every_download_releases_its_slot(edge: Edge) -> None:
    keep(edge)
    slots = edge.app.extensions["visiona"].slots
    for asked in ("bytes=0-1", "bytes=99999-", "nonsense"):
        get_file(edge.client(), Range=asked).close()
    abandoned = edge.client().get("/api/models/model-1/file", buffered=False)
    next(iter(abandoned.response))
    assert slots.free[TransferKind.LIBRARY_DOWNLOAD] == LIBRARY_DOWNLOAD_SLOTS - 1
    abandoned.close()
    assert slots.free[TransferKind.LIBRARY_DOWNLOAD] == LIBRARY_DOWNLOAD_SLOTS


def test_a_missing_file_is_a_failure_of_the_gateway(edge: Edge) -> None:
    model = keep(edge)
    edge.stores.storage.delete(model.storage_key)
    response = get_file(edge.client())
    assert (response.status_code, response.get_json()["code"]) == (500, "storage_unavailable")


@pytest.mark.parametrize("filename", ['a"b.nef', "a\\b.nef", "a%22b.nef", "naïve.nef", "模型.nef", "a;b=c.nef"])
def test_file_names_cannot_leave_their_header(filename: str) -> None:
    header = content_disposition(filename)
    assert header.count('"') == 2
    assert header.isascii()
    assert "\\" not in header


def test_a_model_of_an_empty_file_is_served(edge: Edge) -> None:
    model = replace(keep(edge, 2), id="empty", source_job_id="job-0", size=0, storage_key="job-0/empty")
    with edge.stores.storage.open_writer(model.storage_key) as writer:
        writer.commit()
    edge.stores.models.add(model)
    response = edge.client().get("/api/models/empty/file", headers={"Range": "bytes=0-"})
    assert response.status_code == 416
    assert edge.client().get("/api/models/empty/file").data == b""
