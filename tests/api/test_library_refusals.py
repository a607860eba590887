"""What the library refuses for reasons of its own: a lease that is held, no free place, a body that is too large."""

from pathlib import Path

from app.api.requests import MAX_SMALL_BODY_BYTES
from app.services.results import lease_name
from tests.api.edge import Edge, make_edge
from tests.api.test_models import keep


def test_deleting_waits_for_a_promote_of_the_same_job_only_so_long(tmp_path: Path) -> None:
    """While the lease of the model's job is held elsewhere, the request's time runs out: 504, and the model stays."""
    with make_edge(tmp_path, VISIONA_REQUEST_DEADLINE_SECONDS="0.2") as edge:
        model = keep(edge)
        assert edge.stores.leases.acquire(lease_name(model.source_job_id), "somebody", 60)
        refused = edge.client().delete(f"/api/models/{model.id}")
        assert (refused.status_code, refused.get_json()["code"]) == (504, "deadline_exceeded")
        assert edge.client().get(f"/api/models/{model.id}").status_code == 200


def test_a_file_needs_a_free_place(tmp_path: Path) -> None:
    """With every place taken by other transfers the answer is 503 with Retry-After."""
    with make_edge(tmp_path, VISIONA_UPLOAD_SLOTS="1") as edge:
        model = keep(edge)
        reading = edge.client().get(f"/api/models/{model.id}/file", buffered=False)
        refused = edge.client().get(f"/api/models/{model.id}/file")
        reading.close()
        assert (refused.status_code, refused.get_json()["code"]) == (503, "upload_capacity")
        assert refused.headers["Retry-After"] == "5"


def test_a_name_s_body_may_not_be_huge(edge: Edge) -> None:
    """A body beyond what small requests may have is not read: 413."""
    model = keep(edge)
    body = b'{"name": "' + b"x" * MAX_SMALL_BODY_BYTES + b'"}'
    refused = edge.client().patch(f"/api/models/{model.id}", data=body)
    assert (refused.status_code, refused.get_json()["code"]) == (413, "payload_too_large")
