"""Refusals of the library: a lease that is held, no free slot, a body that is too large."""

from contextlib import ExitStack
from pathlib import Path

from app.api.requests import MAX_SMALL_BODY_BYTES
from app.config import LIBRARY_DOWNLOAD_SLOTS
from app.services.results import lease_name
from app.services.transfers import TransferKind
from tests.api.edge import Edge, make_edge
from tests.api.test_models import keep


def test_deleting_waits_for_a_promote_of_the_same_job_until_the_deadline(tmp_path: Path) -> None:
    """While another holder has the lease of the model's job, the deadline passes: 504, and the model stays."""
    with make_edge(tmp_path, VISIONA_REQUEST_DEADLINE_SECONDS="0.2") as edge:
        model = keep(edge)
        assert edge.stores.leases.acquire(lease_name(model.source_job_id), "somebody", 60)
        refused = edge.client().delete(f"/api/models/{model.id}")
        assert (refused.status_code, refused.get_json()["code"]) == (504, "deadline_exceeded")
        assert edge.client().get(f"/api/models/{model.id}").status_code == 200


def test_a_file_needs_a_free_slot(tmp_path: Path) -> None:
    with make_edge(tmp_path) as edge, ExitStack() as held:
        model = keep(edge)
        slots = edge.app.extensions["visiona"].slots
        for _ in range(LIBRARY_DOWNLOAD_SLOTS):
            held.enter_context(slots.slot(TransferKind.LIBRARY_DOWNLOAD))
        refused = edge.client().get(f"/api/models/{model.id}/file")
        assert (refused.status_code, refused.get_json()["code"]) == (503, "upload_capacity")
        assert refused.headers["Retry-After"] == "5"


def test_a_large_body_with_a_new_name_is_refused(edge: Edge) -> None:
    model = keep(edge)
    body = b'{"name": "' + b"x" * MAX_SMALL_BODY_BYTES + b'"}'
    refused = edge.client().patch(f"/api/models/{model.id}", data=body)
    assert (refused.status_code, refused.get_json()["code"]) == (413, "payload_too_large")
