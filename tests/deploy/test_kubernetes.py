"""deploy/kubernetes: valid for Kubernetes, and consistent with the gateway, its settings and the other deployments.

No cluster runs here. Schemas find wrong names and types; they do not show what ingress-nginx does with an annotation.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.config import Settings, load_settings
from app.version import VERSION
from tests.api.edge import make_edge
from tests.support.processes import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
#: The oldest version that the manifests are for, and the newest whose schemas the package has.
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
ANNOTATION = "nginx.ingress.kubernetes.io/"
#: Not part of the kustomization: values are missing, or it belongs to another namespace.
APPLIED_BY_HAND = {"secret-template.yaml", "ingress-nginx-controller.yaml"}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text("utf-8")))


def document(name: str) -> dict[str, Any]:
    [found] = documents(name)
    return found


def kustomization() -> dict[str, Any]:
    return document("kustomization.yaml")


def manifests() -> list[dict[str, Any]]:
    paths = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
    return [found for path in paths for found in documents(path.name)]


def pod() -> dict[str, Any]:
    return dict(document("deployment.yaml")["spec"]["template"]["spec"])


def container() -> dict[str, Any]:
    [found] = pod()["containers"]
    return dict(found)


def plain_settings() -> dict[str, str]:
    lines = (FOLDER / "settings.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def ingresses() -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in documents("ingress.yaml")}


def annotations(ingress: str) -> dict[str, str]:
    found = ingresses()[ingress]["metadata"]["annotations"]
    return {name.removeprefix(ANNOTATION): value for name, value in found.items()}


def paths() -> Iterator[tuple[str, str, str]]:
    """Yield each path that is open to the outside, its type, and the name of its Ingress."""
    for name, ingress in ingresses().items():
        [rule] = ingress["spec"]["rules"]
        for path in rule["http"]["paths"]:
            yield path["path"], path["pathType"], name


def ingress_of(url: str) -> str | None:
    """Return which Ingress serves a path: the one with the longest path that matches, an exact one first."""
    matching = [
        (kind == "Exact", len(path), name)
        for path, kind, name in paths()
        if url == path or (kind == "Prefix" and url.startswith(path.rstrip("/") + "/"))
    ]
    return max(matching)[2] if matching else None


def nginx_location(start: str) -> str:
    """Return the text of a location of deploy/nginx.conf."""
    text = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")
    [found] = re.findall(rf"^    location {re.escape(start)} {{\n(.*?)^    }}", text, re.MULTILINE | re.DOTALL)
    return str(found)


# The schemas


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_manifests_are_valid_in_the_oldest_and_newest_version(version: str) -> None:
    """No manifest has an unknown or missing field, or a value of the wrong type."""
    for manifest in manifests():
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(
    ("parent", "field", "value"),
    [("container", "imagePullPolicies", "Always"), ("container", "ports", 8000), ("spec", "replica", 2)],
)
def test_wrong_field_is_found(parent: str, field: str, value: object) -> None:
    """The check fails for a misspelled field and for a value of the wrong type, at any depth."""
    broken = deepcopy(document("deployment.yaml"))
    parents = {"spec": broken["spec"], "container": broken["spec"]["template"]["spec"]["containers"][0]}
    parents[parent][field] = value

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, NEWEST, strict=True)


def test_kustomization_has_every_manifest_and_the_current_version() -> None:
    """Nothing is forgotten; what is applied by hand is not included."""
    kept_apart = APPLIED_BY_HAND | {"kustomization.yaml"}
    [image] = kustomization()["images"]

    assert set(kustomization()["resources"]) == {path.name for path in FOLDER.glob("*.yaml")} - kept_apart
    assert image["newTag"] == VERSION


def test_git_ignores_the_filled_in_secret() -> None:
    path = "deploy/kubernetes/secret.yaml"

    assert subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False).returncode == 0


# Names


def test_settings_and_secrets_exist_and_are_complete(known_settings: set[str]) -> None:
    """Every setting that has to be given is in one of the two files, and no secret is in the plain one."""
    secret = document("secret-template.yaml")["stringData"]
    named = {name for name in {**secret, **plain_settings()} if not name.startswith("AWS_")} - {"WEB_CONCURRENCY"}
    required = {f"VISIONA_{name.upper()}" for name, field in Settings.model_fields.items() if field.is_required()}

    assert named <= known_settings
    assert required <= named
    assert set(secret.values()) == {""}
    assert not [name for name in plain_settings() if re.search("SECRET|KEY|PASSWORD|DATABASE_URL", name)]
    # A cluster of pods needs a database and a storage that all of them share.
    assert plain_settings()["VISIONA_STORAGE_URL"].startswith("s3://")
    assert "VISIONA_DATABASE_URL" in secret


def test_pods_get_the_settings_and_the_secret() -> None:
    [generated] = kustomization()["configMapGenerator"]
    secret = document("secret-template.yaml")["metadata"]

    assert container()["envFrom"] == [
        {"configMapRef": {"name": generated["name"]}},
        {"secretRef": {"name": secret["name"]}},
    ]
    assert secret["namespace"] == kustomization()["namespace"] == document("namespace.yaml")["metadata"]["name"]
    # The service's own variables would begin with VISIONA_.
    assert pod()["enableServiceLinks"] is False


def test_everything_selects_the_pods_and_their_port(gateway_port: int) -> None:
    """Selectors, names and ports of the manifests agree with each other and with the image."""
    deployment = document("deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    service = document("service.yaml")
    [port] = service["spec"]["ports"]
    [open_port] = container()["ports"]
    target = document("autoscaler.yaml")["spec"]["scaleTargetRef"]
    backends = [
        path["backend"]["service"] for one in ingresses().values() for path in one["spec"]["rules"][0]["http"]["paths"]
    ]
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))

    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert document("disruption-budget.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert document("network-policy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert open_port["containerPort"] == gateway_port
    assert port["targetPort"] == open_port["name"]
    assert all(one == {"name": service["metadata"]["name"], "port": {"name": port["name"]}} for one in backends)
    assert (target["kind"], target["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    assert container()["image"] == kustomization()["images"][0]["name"] == compose["services"]["gateway"]["image"]


def test_pods_run_without_rights_as_the_account_of_the_image() -> None:
    """The account is the image's, the root is read-only, and the writable folders are in memory and limited."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
    [(user, group)] = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}

    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert (pod()["securityContext"]["runAsUser"], pod()["securityContext"]["runAsGroup"]) == (int(user), int(group))
    assert pod()["automountServiceAccountToken"] is False
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mounts[volume["name"]] for volume in pod()["volumes"]} == {"/tmp", "/dev/shm"}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod()["volumes"])


# Times


def test_pod_can_complete_uploads_after_new_requests_have_stopped(graceful_seconds: int) -> None:
    """Kubernetes counts the time of preStop, which covers the removal of the endpoint, as part of the grace period."""
    pre_stop_seconds = container()["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pre_stop_seconds >= 5
    assert pod()["terminationGracePeriodSeconds"] >= pre_stop_seconds + graceful_seconds + 20


def test_probes_leave_time_for_a_migration_and_for_a_slow_database() -> None:
    """A start may take as long as systemd allows; a probe waits longer than the checks of /readyz take."""
    unit = (ROOT / "deploy" / "visiona-gateway.service").read_text("utf-8")
    [start_seconds] = re.findall(r"^TimeoutStartSec=(\d+)$", unit, re.MULTILINE)
    startup, liveness, readiness = (container()[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))

    assert startup["periodSeconds"] * startup["failureThreshold"] == int(start_seconds)
    assert [probe["httpGet"]["path"] for probe in (startup, liveness, readiness)] == ["/healthz", "/healthz", "/readyz"]
    # Two rounds of checks of 2 s each.
    assert readiness["timeoutSeconds"] > 4
    assert {probe["httpGet"]["port"] for probe in (startup, liveness, readiness)} == {"http"}


def test_timeouts_of_the_ingress_agree_with_the_settings(gunicorn_definitions: dict[str, ast.stmt]) -> None:
    """The gateway gives up first and says why, and the ingress closes idle connections first."""
    controller = document("ingress-nginx-controller.yaml")["data"]
    most_idle = next(
        limit.le for limit in Settings.model_fields["upload_idle_seconds"].metadata if hasattr(limit, "le")
    )
    deadline = Settings.model_fields["request_deadline_seconds"].default
    keepalive = gunicorn_definitions["keepalive"]
    assert isinstance(keepalive, ast.Assign)

    assert int(controller["client-body-timeout"]) > most_idle
    assert int(annotations("visiona-uploads")["proxy-send-timeout"]) > most_idle
    assert int(annotations("visiona-uploads")["proxy-read-timeout"]) > 2 * deadline
    assert all(int(annotations(name)["proxy-read-timeout"]) > deadline for name in ingresses())
    assert int(controller["upstream-keepalive-timeout"]) < ast.literal_eval(keepalive.value)
    assert controller["use-http2"] == "false"


@pytest.mark.parametrize(
    ("location", "url", "names"),
    [
        (
            "= /api/conversion/init",
            "/api/conversion/init",
            {
                "proxy_request_buffering": "proxy-request-buffering",
                "client_body_buffer_size": "client-body-buffer-size",
                "client_max_body_size": "proxy-body-size",
                "proxy_send_timeout": "proxy-send-timeout",
                "proxy_read_timeout": "proxy-read-timeout",
            },
        ),
        ("~ ^/api/conversion/(inspect|check)$", "/api/conversion/inspect", {"client_max_body_size": "proxy-body-size"}),
        (
            "~ ^/api/conversion/[^/]+/promote-to-models$",
            "/api/conversion/x/promote-to-models",
            {"proxy_read_timeout": "proxy-read-timeout"},
        ),
        ("~ ^/api/models/[^/]+/file$", "/api/models/x/file", {"proxy_read_timeout": "proxy-read-timeout"}),
    ],
)
def test_ingress_has_the_values_of_the_deployed_nginx(location: str, url: str, names: dict[str, str]) -> None:
    """The three long transfers and large forms get what deploy/nginx.conf gives them."""
    directives = dict(re.findall(r"^\s*(\w+) ([^;]+);", nginx_location(location), re.MULTILINE))
    ingress = ingress_of(url)
    assert ingress is not None

    for directive, annotation in names.items():
        assert annotations(ingress)[annotation] == re.sub(r"(\d)s$", r"\1", directives[directive]), directive


def test_no_post_is_sent_twice() -> None:
    """Only a failed connection leads to another pod; a timeout or an error status does not."""
    assert {annotations(name)["proxy-next-upstream"] for name in ingresses()} == {"error"}


def test_every_page_is_reachable_except_metrics_and_readiness(tmp_path: Path) -> None:
    """The paths of the ingress cover the routes of the gateway; two of them are closed to the outside."""
    with make_edge(tmp_path) as edge:
        routes = {re.sub(r"<[^>]+>", "x", rule.rule) for rule in edge.app.url_map.iter_rules()}

    assert {route for route in routes if ingress_of(route) is None} == {"/metrics", "/readyz"}


def test_autoscaler_adds_pods_before_uploads_are_refused() -> None:
    """It aims at half of the upload slots of a pod, and its metric exists."""
    [metric] = document("autoscaler.yaml")["spec"]["metrics"]
    target = int(metric["pods"]["target"]["averageValue"])
    secrets = {"VISIONA_SECRET_KEY": "k" * 40, "VISIONA_OIDC_CLIENT_SECRET": "secret"}
    slots = load_settings(plain_settings() | secrets).max_uploads * int(plain_settings()["WEB_CONCURRENCY"])

    assert metric["pods"]["metric"]["name"] in (ROOT / "app" / "metrics.py").read_text("utf-8")
    assert slots * 0.4 <= target <= slots * 0.6
