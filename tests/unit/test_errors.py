"""The error catalog against the published codes, and the failures against the catalog."""

import copy
import inspect

import pytest

from app import errors
from app.clients.converter import ConverterConflictError
from app.errors import LANGUAGES, Blame, GatewayError, catalogue
from app.errors.catalogue import _entry

U, G, S = Blame.USER, Blame.GATEWAY, Blame.UPSTREAM
R, NO = True, False

#: The first published codes: code, status, i18n key, blame, retryable.
PUBLISHED: list[tuple[str, int, str, Blame, bool]] = [
    ("bad_host", 400, "invalid_request", U, NO),
    ("unauthenticated", 401, "unauthenticated", U, NO),
    ("sign_in_failed", 400, "sign_in_failed", S, R),
    ("cross_site_request", 403, "forbidden_origin", U, NO),
    ("navigation_required", 403, "navigation_required", U, NO),
    ("not_found", 404, "invalid_request", U, NO),
    ("method_not_allowed", 405, "invalid_request", U, NO),
    ("conversion_disabled", 501, "not_configured", G, NO),
    ("job_not_found", 404, "job_not_found", U, NO),
    ("model_not_found", 404, "model_not_found", U, NO),
    ("active_job_conflict", 409, "active_job", U, R),
    ("upload_in_progress", 409, "upload_in_progress", U, R),
    ("job_not_completed", 409, "not_ready", U, R),
    ("job_failed", 409, "job_failed", U, NO),
    ("invalid_request", 400, "invalid_request", U, NO),
    ("unsupported_media_type", 415, "invalid_request", U, NO),
    ("payload_too_large", 413, "too_large", U, NO),
    ("precondition_failed", 412, "invalid_request", U, NO),
    ("range_not_satisfiable", 416, "invalid_request", U, NO),
    ("upload_timeout", 408, "upload_stalled", U, R),
    ("converter_rejected", 422, "rejected", U, NO),
    ("converter_busy", 503, "busy", S, R),
    ("upload_capacity", 503, "busy", G, R),
    ("draining", 503, "busy", G, R),
    ("upload_outcome_unknown", 502, "outcome_unknown", S, NO),
    ("converter_unavailable", 502, "converter_down", S, R),
    ("promote_failed", 502, "promote_failed", S, R),
    ("file_service_unavailable", 502, "files_down", S, R),
    ("result_missing", 502, "result_missing", S, NO),
    ("result_corrupt", 502, "result_corrupt", S, R),
    ("idp_misconfigured", 500, "idp_misconfig", G, NO),
    ("idp_unavailable", 503, "idp_down", S, R),
    ("download_token_failed", 502, "token_failed", S, NO),
    ("mc_token_unavailable", 502, "token_failed", S, R),
    ("storage_unavailable", 500, "internal_storage", G, R),
    ("model_store_unavailable", 500, "internal_store", G, R),
    ("deadline_exceeded", 504, "timeout", S, R),
    ("internal_error", 500, "internal", G, NO),
]
#: Codes that were added later.
ADDED = [
    ("library_full", 409, "library_full", U, NO),
    ("too_many_requests", 429, "busy", U, R),
    ("upload_not_found", 404, "upload_not_found", U, NO),
    ("upload_complete", 409, "upload_complete", U, NO),
    ("upload_ended", 409, "upload_ended", U, R),
]
CODES = [row[0] for row in PUBLISHED + ADDED]
FAILURES = [cls for cls in vars(errors).values() if inspect.isclass(cls) and issubclass(cls, GatewayError)]
#: The arguments of the classes that need some.
ARGUMENTS: dict[str, tuple[object, ...]] = {
    "InvalidRequestError": ("a problem",),
    "PayloadTooLargeError": ("a limit",),
    "RangeNotSatisfiableError": (7,),
    "LibraryFullError": (7,),
    "ConverterRejectedError": ("a code", "a message"),
}


def a(failure: type[GatewayError]) -> GatewayError:
    return failure(*ARGUMENTS.get(failure.__name__, ()))  # type: ignore[arg-type]


def subclasses(cls: type) -> set[type]:
    return {cls}.union(*(subclasses(sub) for sub in cls.__subclasses__()))


@pytest.mark.parametrize(("code", "status", "i18n_key", "blame", "retryable"), PUBLISHED + ADDED)
def test_published_codes_do_not_change(code: str, status: int, i18n_key: str, blame: Blame, retryable: bool) -> None:
    entry = catalogue()[code]
    assert (entry.status, entry.i18n_key, entry.blame, entry.retryable) == (status, i18n_key, blame, retryable)


def test_the_catalog_has_exactly_the_published_codes() -> None:
    assert sorted(catalogue()) == sorted(CODES)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda cls: cls.__name__)
def test_every_failure_has_a_code_of_the_catalog(failure: type[GatewayError]) -> None:
    assert a(failure).entry.code == failure.code


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_failure(code: str) -> None:
    assert code in {failure.code for failure in FAILURES if failure is not GatewayError}


def test_the_package_exports_every_failure() -> None:
    ours = {cls for cls in subclasses(GatewayError) if cls.__module__.startswith("app.errors")}
    assert ours == set(FAILURES)
    assert all(getattr(errors, cls.__name__) is cls for cls in FAILURES)


@pytest.mark.parametrize("code", CODES)
def test_every_text_exists_in_every_language(code: str) -> None:
    entry = catalogue()[code]
    for texts in (entry.title, entry.detail):
        assert sorted(texts) == sorted(LANGUAGES)
        assert all(text.strip() for text in texts.values())
    assert entry.title["en"] != entry.title["zh-TW"]
    assert any(ord(character) > 0x2E80 for character in entry.title["zh-TW"])


@pytest.mark.parametrize("failure", FAILURES, ids=lambda cls: cls.__name__)
def test_every_failure_fills_its_placeholders(failure: type[GatewayError]) -> None:
    raised = a(failure)
    assert raised.entry.placeholders == set(raised.texts)
    for language in LANGUAGES:
        assert "{" not in str(raised.entry.as_problem(language, texts=raised.texts, request_id="")["detail"])


@pytest.mark.parametrize("failure", [errors.InvalidRequestError, errors.PayloadTooLargeError])
def test_a_phrase_is_in_the_callers_language_if_it_has_one(
    failure: type[errors.InvalidRequestError | errors.PayloadTooLargeError],
) -> None:
    def detail(raised: GatewayError, language: str) -> str:
        return str(raised.entry.as_problem(language, texts=raised.texts, request_id="")["detail"])

    both = failure("too many", zh_tw="過多")
    assert detail(both, "en").endswith(": too many.")
    assert detail(both, "zh-TW").endswith("：過多。")
    assert both.reason == "too many"
    assert detail(failure("too many"), "zh-TW").endswith("：too many。")


@pytest.mark.parametrize("failure", FAILURES, ids=lambda cls: cls.__name__)
def test_the_module_docstring_draws_the_whole_tree(failure: type[GatewayError]) -> None:
    assert failure.__name__ in (errors.failures.__doc__ or "")
    assert failure.__doc__


def test_failures_that_pass_by_themselves_have_a_default_retry_after() -> None:
    """All of 429 and 503, and the conflicts that end when a job or an upload does."""
    conflicts = {"active_job_conflict", "upload_in_progress", "job_not_completed"}
    expected = {code for code, status, *_ in PUBLISHED + ADDED if status in {429, 503}} | conflicts
    found = {failure.code: a(failure).retry_after_seconds for failure in FAILURES if a(failure).retry_after_seconds}
    assert found == dict.fromkeys(expected, 5)


class NeedsArgumentsError(GatewayError):
    """A failure whose constructor arguments are not in `args`."""

    def __init__(self, first: str, *, second: int) -> None:
        super().__init__(f"{first} and {second}", extensions={"second": second})


@pytest.mark.parametrize(
    "original",
    [*map(a, FAILURES), NeedsArgumentsError("one", second=2), ConverterConflictError(None)],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failure_can_be_copied_for_every_thread_that_shares_it(original: GatewayError) -> None:
    twin = copy.copy(original)
    assert type(twin) is type(original)
    assert (twin.args, vars(twin)) == (original.args, vars(original))
    assert twin is not original


def test_failures_that_callers_must_not_tell_apart_share_a_code() -> None:
    assert errors.OwnershipMismatchError.code == errors.JobNotFoundError.code
    assert errors.ServiceClientUnauthorizedError.code == errors.IDPMisconfiguredError.code


def test_a_retry_after_of_zero_is_not_mistaken_for_none() -> None:
    assert errors.ConverterBusyError(retry_after_seconds=0).retry_after_seconds == 0
    assert errors.ConverterBusyError().retry_after_seconds == 5
    assert errors.InternalError().retry_after_seconds is None


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"title": {"en": "Only English"}}, "title"),
        ({"title": {"en": "Two", "zh-TW": ""}}, "title"),
        ({"detail": "a text for all"}, "detail"),
        ({"status": "404"}, "status"),
        ({"retryable": "yes"}, "retryable"),
    ],
)
def test_an_incomplete_entry_is_refused_by_name(changed: dict[str, object], complaint: str) -> None:
    """This happens when the catalog is loaded, before the first request."""
    texts = {"en": "x", "zh-TW": "x"}
    table = {"status": 404, "retryable": False, "blame": "user", "i18n_key": "k", "title": texts, "detail": texts}
    assert _entry("some_code", table).status == 404
    with pytest.raises((ValueError, TypeError), match=f"'some_code'.*{complaint}"):
        _entry("some_code", table | changed)
