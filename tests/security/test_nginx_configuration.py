"""deploy/nginx.conf agrees with the gateway: with its settings, its limits, gunicorn.conf.py and its routes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Le

from app.api import announcement, inspection
from app.api.fair_share import MAX_REQUESTS_PER_USER
from app.api.requests import MAX_SMALL_BODY_BYTES
from app.api.session import SessionCookie
from app.config import Settings, load_settings
from app.domain.identity import Identity, Session
from app.domain.security_headers import security_headers
from app.errors import TooManyRequestsError
from tests.api.edge import CONVERSION, ENVIRON, Edge, make_edge
from tests.support.nginx import CLUSTER, CONFIGURATION, HOST
from tests.support.nginx_directives import Block, parse, seconds, size
from tests.support.processes import ROOT

INIT, PROMOTE, FILE = "/api/conversion/init", "/api/conversion/j/promote-to-models", "/api/models/m/file"


@pytest.fixture(scope="module")
def configuration() -> Block:
    return parse(CONFIGURATION.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=[HOST, CLUSTER], ids=lambda path: path.stem)
def groups(request: pytest.FixtureRequest) -> dict[str, Block]:
    """The groups of servers by name, for one host and for several."""
    blocks = parse(request.param.read_text(encoding="utf-8")).blocks("upstream")
    return {block.arguments[0]: block for block in blocks}


@pytest.fixture
def server(configuration: Block) -> Block:
    """The server for TLS."""
    [found] = [block for block in configuration.blocks("server") if block.blocks("location")]
    return found


@pytest.fixture(scope="module")
def gunicorn() -> dict[str, Any]:
    """The settings of gunicorn.conf.py, read in a process of their own because reading them changes the process."""
    program = (
        "import json, runpy; found = runpy.run_path('gunicorn.conf.py');"
        "print(json.dumps({name: value for name, value in found.items() if name[0] != '_'}, default=str))"
    )
    environment = {"PATH": os.environ["PATH"]} | ENVIRON | CONVERSION
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=True)
    settings: dict[str, Any] = json.loads(done.stdout)
    return settings


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with make_edge(tmp_path) as made:
        yield made


def location_of(server: Block, path: str) -> Block:
    """Return the location that nginx chooses for a path: the exact one, else the first regex, else the prefix `/`."""
    locations = server.blocks("location")
    exact = [block for block in locations if block.arguments == ["=", path]]
    matching = [
        block for block in locations if block.arguments[0] == "~" and re.search(block.arguments[1], path) is not None
    ]
    prefix = [block for block in locations if block.arguments == ["/"]]
    return [*exact, *matching, *prefix][0]


def setting(server: Block, path: str, name: str) -> list[str]:
    """Return the arguments of a directive for a path: those of its location, else the server's."""
    location = location_of(server, path)
    return location.one(name) if location.values(name) else server.one(name)


def most(name: str) -> float:
    """Return the largest value that a setting of the gateway may have."""
    [limit] = [rule.le for rule in Settings.model_fields[name].metadata if isinstance(rule, Le)]
    return float(limit)  # type: ignore[arg-type]


def default(name: str) -> float:
    return float(Settings.model_fields[name].default)


# --- sizes


def test_uploads_pass_as_they_come_and_only_the_gateway_counts_them(server: Block) -> None:
    """No buffering, no limit beside VISIONA_MAX_UPLOAD_BYTES; everything else is buffered."""
    assert setting(server, INIT, "proxy_request_buffering") == ["off"]
    assert setting(server, INIT, "client_max_body_size") == ["0"]
    buffering = [block.values("proxy_request_buffering") for block in server.blocks("location")]
    assert sum(map(len, buffering)) == 1
    assert not server.values("proxy_request_buffering")


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/", MAX_SMALL_BODY_BYTES),
        (PROMOTE, MAX_SMALL_BODY_BYTES),
        ("/api/models/m", MAX_SMALL_BODY_BYTES),
        ("/api/conversion/check", announcement.MAX_FORM_BYTES),
        ("/api/conversion/inspect", inspection.MAX_FORM_BYTES),
    ],
)
def test_bodies_may_be_a_little_larger_than_the_gateway_takes(server: Block, path: str, most: int) -> None:
    """The gateway refuses bodies that are slightly too large, and nginx those that are far too large."""
    limit = size(setting(server, path, "client_max_body_size")[0])
    assert 1.05 * most < limit < most + 1024 * 1024


def test_a_head_that_nginx_passes_on_is_one_that_gunicorn_takes(server: Block, gunicorn: dict[str, Any]) -> None:
    [_, each] = server.one("large_client_header_buffers")
    assert size(each) - len("\r\n") <= gunicorn["limit_request_line"]
    assert size(each) <= gunicorn["limit_request_field_size"], "gunicorn counts the line end of a field"


# --- limits on requests


def test_every_location_has_every_limit_on_requests(configuration: Block, server: Block) -> None:
    """A location with its own limit would lose the server's. A request over a limit is refused and not delayed."""
    limits = [*server.values("limit_req"), *server.values("limit_conn")]
    named = [words[0].removeprefix("zone=") for words in limits]
    zones = [*configuration.values("limit_req_zone"), *configuration.values("limit_conn_zone")]
    assert sorted(named) == sorted(words[1].removeprefix("zone=").partition(":")[0] for words in zones)
    assert all(words[2:] == ["nodelay"] for words in server.values("limit_req"))
    assert not any(block.values(name) for block in server.blocks("location") for name in ("limit_req", "limit_conn"))
    for kind in ("limit_req", "limit_conn"):
        assert server.one(f"{kind}_status") == [str(TooManyRequestsError("").entry.status)]
        # The error log would show a query, in which an authorization code may stand; nginx logs from `error` on.
        assert server.one(f"{kind}_log_level") == ["info"]


def test_a_user_meets_the_gateways_own_limit_before_nginxs(server: Block) -> None:
    at_once = {zone: int(number) for zone, number in server.values("limit_conn")}
    assert at_once["visiona_session_at_once"] >= 2 * MAX_REQUESTS_PER_USER


@pytest.mark.parametrize("public_url", ["https://visiona.example.com", "http://localhost"])
def test_a_session_is_told_by_the_end_of_its_cookie(configuration: Block, public_url: str) -> None:
    """For each name of the cookie, and at any position among others."""
    settings = load_settings(ENVIRON | {"VISIONA_PUBLIC_BASE_URL": public_url})
    cookie = SessionCookie(settings)
    name = cookie.name
    value = cookie.sign(Session("s", Identity("alice", "", ""), datetime.now(UTC)))
    [found] = [block for block in configuration.blocks("map") if block.arguments[1] == "$visiona_cookie"]
    rules = [key.removeprefix("~").replace("(?<", "(?P<").replace(r"\z", r"\Z") for key, _ in found.content]
    for header in (f"{name}={value}", f"a=b; {name}={value}; c=d", f"x{name}=no; {name}={value}"):
        matches = [match for match in (re.search(rule, header) for rule in rules) if match]
        assert [value.endswith(f".{match[1]}") for match in matches[:1]] == [True], header


# --- times


def test_the_gateway_ends_a_stalled_upload_before_nginx_does(server: Block) -> None:
    """nginx waits longer than any value of VISIONA_UPLOAD_IDLE_SECONDS, for the client and for the gateway."""
    idle = most("upload_idle_seconds")
    assert seconds(setting(server, INIT, "client_body_timeout")[0]) > idle
    assert seconds(setting(server, INIT, "proxy_send_timeout")[0]) > idle
    # The converter's answer, and the look for one that was lost.
    assert seconds(setting(server, INIT, "proxy_read_timeout")[0]) > 60 + default("request_deadline_seconds")


@pytest.mark.parametrize("path", ["/", "/auth/authorize", "/api/me", "/api/conversion/j", "/api/conversion/j/download"])
def test_the_gateway_responds_to_its_own_deadline_before_nginx_does(server: Block, path: str) -> None:
    assert seconds(setting(server, path, "proxy_read_timeout")[0]) > default("request_deadline_seconds") + 15


def test_promoting_may_take_as_long_as_the_largest_setting_of_the_deadline(server: Block) -> None:
    """Also as long as a result of 5 GiB takes at 1.5 MB/s."""
    waits = seconds(setting(server, PROMOTE, "proxy_read_timeout")[0])
    assert waits >= most("request_deadline_seconds")
    assert waits >= default("max_upload_bytes") / 1_500_000


def test_nginx_closes_idle_connections_before_gunicorn_does(groups: dict[str, Block], gunicorn: dict[str, Any]) -> None:
    """Otherwise nginx could send a request on a connection that gunicorn has just closed."""
    assert seconds(groups["visiona_gateway"].one("keepalive_timeout")[0]) < gunicorn["keepalive"]


def test_only_requests_that_may_be_repeated_meet_idle_connections(
    configuration: Block, server: Block, groups: dict[str, Block]
) -> None:
    assert [name for name, group in groups.items() if group.values("keepalive")] == ["visiona_gateway"]
    [choice] = [block for block in configuration.blocks("map") if block.arguments[1] == "$visiona_connections"]
    assert dict(choice.content) == {"default": ["visiona_new_connections"], r"~^(GET|HEAD)\z": ["visiona_gateway"]}
    targets = {path: setting(server, path, "proxy_pass") for path in ("/", INIT, PROMOTE, FILE)}
    assert targets == {
        "/": ["http://$visiona_connections"],
        INIT: ["http://visiona_uploads"],
        PROMOTE: ["http://visiona_new_connections"],
        FILE: ["http://visiona_gateway"],
    }


def test_another_host_is_tried_only_if_a_connection_fails(server: Block) -> None:
    """Never for a request that was sent and may have had an effect, nor because a response is slow."""
    assert server.one("proxy_next_upstream") == ["error", "timeout"]
    assert not any(block.values("proxy_next_upstream") for block in server.blocks("location"))
    limit = seconds(server.one("proxy_next_upstream_timeout")[0])
    slowest = min(seconds(setting(server, path, "proxy_read_timeout")[0]) for path in ("/", INIT, PROMOTE, FILE))
    assert seconds(server.one("proxy_connect_timeout")[0]) * 2 < limit < slowest


def test_a_restarted_host_is_in_use_before_the_next_one_refuses_connections() -> None:
    """nginx compares whole seconds, so it leaves out a host for up to a second longer than `fail_timeout`.

    After that it sends one request, and the others only when that has ended. Uploads last too long for this.
    """
    options, of_uploads = [], []
    for block in parse(CLUSTER.read_text("utf-8")).blocks("upstream"):
        found = [dict(option.split("=") for option in words[1:]) for words in block.values("server")]
        (of_uploads if block.arguments == ["visiona_uploads"] else options).extend(found)
    assert of_uploads == [{"max_fails": "0"}] * 2
    assert all(int(each["max_fails"]) > 1 for each in options)
    assert {seconds(each["fail_timeout"]) + 1 for each in options} == {default("drain_seconds")}


# --- who is believed


def test_all_groups_have_the_same_servers_and_the_port_of_gunicorn(
    groups: dict[str, Block], gunicorn: dict[str, Any]
) -> None:
    assert groups.keys() == {"visiona_gateway", "visiona_new_connections", "visiona_uploads"}
    servers = [[words[0] for words in group.values("server")] for group in groups.values()]
    assert servers == servers[:1] * 3
    assert gunicorn["bind"] in servers[0] or len(servers[0]) > 1
    assert {address.partition(":")[2] for address in servers[0]} == {gunicorn["bind"].partition(":")[2]}


def test_forwarding_headers_are_nginxs_own_or_none(server: Block) -> None:
    """They are set, never appended to the client's. A location that set one would lose all others."""
    given = dict(server.values("proxy_set_header"))
    assert given["Host"] == given["X-Forwarded-Host"] == "$http_host"
    assert given["X-Forwarded-For"] == given["X-Real-IP"] == "$remote_addr"
    assert given["X-Forwarded-Proto"] == "$scheme"
    cleared = {name for name, value in given.items() if value == ""}
    assert cleared >= {"Forwarded", "Proxy", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-User"}
    assert not any(block.values("proxy_set_header") for block in server.blocks("location"))


def test_gunicorn_believes_no_header_about_where_it_is(gunicorn: dict[str, Any]) -> None:
    believed = [gunicorn[name] for name in ("forwarded_allow_ips", "forwarder_headers", "secure_scheme_headers")]
    assert believed == ["", "", {}]


def test_the_gateways_own_port_is_for_this_machine_only(gunicorn: dict[str, Any]) -> None:
    assert gunicorn["bind"].startswith("127.0.0.1:")


def test_only_current_versions_of_tls_are_offered(server: Block) -> None:
    assert server.one("ssl_protocols") == ["TLSv1.2", "TLSv1.3"]
    assert server.one("ssl_session_tickets") == ["off"]
    assert server.one("ssl_ciphers") == ["ECDHE+AESGCM:ECDHE+CHACHA20"]


def test_neither_server_tells_its_version_or_logs_queries(configuration: Block) -> None:
    """During a sign-in a query contains an authorization code."""
    for server in configuration.blocks("server"):
        assert server.one("server_tokens") == ["off"]
        assert server.one("access_log")[1] == "visiona"
    [_, *pieces] = configuration.one("log_format")
    assert not any(name in "".join(pieces) for name in ("$request ", '$request"', "$request_uri", "$args", "$query"))
    assert "cookie" not in "".join(pieces).lower()


# --- headers and routes


def test_responses_made_by_nginx_have_the_gateways_headers(configuration: Block, server: Block) -> None:
    """With the same names and values, each only if the response has none; no location removes them."""
    maps = {block.arguments[1]: block for block in configuration.blocks("map")}
    added = {words[0]: words for words in server.values("add_header")}
    for name, value in security_headers(is_https=True).items():
        assert added[name][2:] == ["always"], name
        source = maps[added[name][1]]
        assert f"$upstream_http_{name.lower().replace('-', '_')}" in source.arguments[0]
        assert [arguments for _, arguments in source.content] == [[value]], name
    assert not any(block.values("add_header") for block in server.blocks("location"))


def test_every_exact_location_is_a_route_of_the_gateway(server: Block, edge: Edge) -> None:
    """A renamed route would lose its settings in nginx, and no other test would fail."""
    urls = edge.app.url_map.bind("localhost")
    public = ["/openapi.json", "/docs", "/console/errors.json", "/console/v/js/app.js"]
    forms = ["/api/conversion/inspect", "/api/conversion/check"]
    special = dict.fromkeys([INIT, PROMOTE, *forms], "POST") | {FILE: "GET"} | dict.fromkeys(public, "GET")
    for path, method in special.items():
        assert location_of(server, path).arguments != ["/"], path
        assert urls.test(path, method), path
    assert location_of(server, "/console/signed-in").arguments == ["/"]
    named = {tuple(block.arguments) for block in server.blocks("location") if block.arguments[0][0] != "@"}
    known = {tuple(location_of(server, path).arguments) for path in special} | {
        ("/",),
        ("=", "/metrics"),
        ("=", "/readyz"),
        ("=", "/.refused"),
        ("=", "/.refused_page"),
        ("^~", "/.pages/"),
    }
    assert named == known, "a location that this test does not know"


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
def test_metrics_and_readiness_are_closed(server: Block, path: str) -> None:
    assert location_of(server, path).one("return") == ["404"]
