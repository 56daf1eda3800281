"""Generated over every address of the URLconf: a foreign tenant is a 404, a missing right a 403, nobody a 401 or the
login page. An address that these tables do not know fails the test, so that a new one cannot be forgotten."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from catalog.lookonly import LookOnly
from catalog.models import Persona, ScopeDefault, ServiceKey, Tenant, TenantGrant
from catalog.tenancy import tenancy_of
from overrides import approvals, services
from overrides.audit import Actor
from overrides.changes import Change
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import AuditEntry, ChangeRequest, Flag, FlagTenant, KillSwitch, Override
from routing.guarding import services as rollouts
from routing.models import Rollout, Selection, Webhook
from routing.quarantining import services as quarantining
from routing.quarantining.models import ProfileQuarantine
from routing.sentinels.findings import Finding, Sentinel, Verdict
from telemetry.models import QuarantinedEvent, ScopeActivity
from tests import factories
from tests.overrides.people import REASON, call
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db

OWN, FOREIGN = "aurora", "borealis-secret"
ROOT = Actor("user:root", "admin")
#: Given to everybody: they hold no data of anybody's.
PUBLIC = {
    "healthz",
    "readyz",
    "schema",
    "api-docs",
    "completion-event-v1",
    "router-selection-v1",
    "router-alert-v1",
}


def world() -> None:
    """Two tenants with everything that belongs to one."""
    factories.tenant(FOREIGN)
    ranked_scope()
    for slug in (OWN, FOREIGN):
        _fill(factories.tenant(slug))


def _fill(tenant: Tenant) -> None:
    slug, now, persona = tenant.slug, timezone.now(), Persona.objects.get()
    wish = services.Wish(
        "prefer", "cheap", f"made for {slug}", slug, "essayist", None, now + timedelta(days=1)
    )
    services.create_override(wish, ROOT, now)
    services.set_kill_switch(slug, True, f"made for {slug}", ROOT, now)
    change = Change("kill_switch", slug, {"tenant": slug, "on": False}, f"made for {slug}")
    approvals.propose(change, Actor("user:somebody", "operator"), now)
    FlagTenant.objects.create(flag=Flag.objects.get(), tenant=tenant, rollout_percent=1)
    rollouts.start(rollouts.Wish(slug, "essayist", f"made for {slug}"), ROOT, now)
    ScopeDefault.objects.create(tenant=tenant, persona=persona, profile=factories.profile("cheap"))
    ScopeActivity.objects.create(tenant=slug, persona="essayist", last_event_at=now)
    QuarantinedEvent.objects.create(
        received_at=now, source="x", tenant=slug, code="bad", detail=f"of {slug}", raw=""
    )
    client = Client()
    key = factories.key("select", tenants=(slug,))
    asked = {"tenant": slug, "persona": "essayist", "conversation_id": f"of-{slug}"}
    assert call(client, "post", "/selections", asked, key).status_code == 200


def of(model: Any, slug: str = FOREIGN) -> Any:
    """The newest row of a tenant, by what the model itself says of tenants."""
    tenancy = tenancy_of(model)
    assert tenancy is not None
    return model.objects.filter(**{str(tenancy.path): slug}).order_by("-pk").first()


@dataclass(frozen=True)
class Ask:
    """How an endpoint is asked about the foreign tenant. ``status``: 404; 200: it answers, without a word of it."""

    arguments: Callable[[], dict[str, Any]] = dict
    query: str = ""
    body: Callable[[], Any] = lambda: None
    status: int = 404
    if_match: bool = False


WISH = {"kind": "lock", "profile": "cheap", "tenant": FOREIGN, "reason": REASON}


def _override() -> dict[str, Any]:
    return {"pk": of(Override).pk}


def _quarantine() -> int:
    """Opened by what a sentinel saw of the foreign tenant."""
    finding = Finding(Sentinel.ERROR_BURST, Verdict.FIRED, f"{FOREIGN} fails.", {"tenant": FOREIGN})
    quarantining.open_by_sentinel("cheap", finding, timezone.now())
    return int(ProfileQuarantine.objects.get().pk)


def _request() -> dict[str, Any]:
    return {"pk": of(ChangeRequest).pk}


def _rollout() -> dict[str, Any]:
    return {"pk": of(Rollout).pk}


def _tag(path: str) -> str:
    return str(call(Client(), "get", path, key=factories.key(tenants=()))["ETag"])


#: Name of the URL and method to how a foreign tenant is asked for there.
ENDPOINTS: dict[tuple[str, str], Ask] = {
    ("metrics", "get"): Ask(status=200),
    # Batches judge each item alone: a foreign tenant's is refused as one that does not exist.
    ("completions", "post"): Ask(
        body=lambda: [factories.event(tenant=FOREIGN, occurred_at=timezone.now().isoformat())],
        status=422,
    ),
    ("selections-batch", "post"): Ask(body=lambda: {"decisions": [_core()]}, status=422),
    ("profile-metrics", "get"): Ask(query=f"tenant={FOREIGN}&persona=essayist"),
    ("freshness", "get"): Ask(query=f"tenant={FOREIGN}"),
    ("selections", "post"): Ask(
        body=lambda: {"tenant": FOREIGN, "persona": "essayist", "conversation_id": "c"}
    ),
    ("selection", "get"): Ask(lambda: {"decision_id": of(Selection).decision_id}),
    ("conversation-selection", "get"): Ask(lambda: {"conversation_id": f"of-{FOREIGN}"}, f"tenant={FOREIGN}"),
    ("policy", "get"): Ask(status=200),
    ("whatif", "post"): Ask(body=lambda: {"tenant": FOREIGN, "remove": ["cheap"]}),
    # Profiles are everybody's: that one is in quarantine is told, without figures; to change it takes all tenants.
    ("quarantines", "get"): Ask(status=200),
    ("quarantines", "post"): Ask(body=lambda: {"profile": "cheap", "reason": REASON}, status=403),
    ("quarantine", "get"): Ask(lambda: {"pk": _quarantine()}, status=200),
    ("quarantine-release", "post"): Ask(
        lambda: {"pk": _quarantine()}, body=lambda: {"reason": REASON}, status=403, if_match=True
    ),
    ("savings", "get"): Ask(query=f"tenant={FOREIGN}"),
    ("rollouts", "get"): Ask(status=200),
    ("rollouts", "post"): Ask(body=lambda: {"tenant": FOREIGN, "reason": REASON}),
    ("rollout", "get"): Ask(_rollout),
    **{
        (f"rollout-{act}", "post"): Ask(_rollout, body=lambda: {"reason": REASON}, if_match=True)
        for act in ("pause", "resume", "roll-back", "acknowledge", "cancel")
    },
    ("rankings", "get"): Ask(query=f"tenant={FOREIGN}&persona=essayist"),
    ("overrides", "get"): Ask(status=200),
    ("overrides", "post"): Ask(body=lambda: WISH),
    ("override", "get"): Ask(_override),
    ("override", "put"): Ask(_override, body=lambda: {**WISH, "tenant": OWN}, if_match=True),
    ("override-revoke", "post"): Ask(_override, body=lambda: {"reason": REASON}, if_match=True),
    ("override-undo", "post"): Ask(_override, body=lambda: {"reason": REASON}, if_match=True),
    ("override-history", "get"): Ask(_override),
    ("override-regret", "get"): Ask(_override),
    ("settings-personas", "get"): Ask(status=200),
    ("settings-persona", "get"): Ask(lambda: {"slug": "essayist"}, status=200),
    # Personas are everybody's: who is bound to tenants may not change them, whichever tenant it is.
    ("settings-persona", "patch"): Ask(
        lambda: {"slug": "essayist"},
        body=lambda: {"min_samples": 5, "reason": REASON},
        status=403,
        if_match=True,
    ),
    ("settings-flags", "get"): Ask(status=200),
    ("settings-flag", "get"): Ask(lambda: {"name": AUTO_MODEL_SELECTION}, status=200),
    ("settings-flag", "patch"): Ask(
        lambda: {"name": AUTO_MODEL_SELECTION},
        body=lambda: {"tenants": {FOREIGN: "5"}, "reason": REASON},
        if_match=True,
    ),
    ("kill-switch", "get"): Ask(status=200),
    ("kill-switch", "put"): Ask(body=lambda: {"tenant": FOREIGN, "on": False, "reason": REASON}),
    ("change-requests", "get"): Ask(status=200),
    ("change-request", "get"): Ask(_request),
    ("change-request", "patch"): Ask(_request, body=lambda: {"reason": REASON}, if_match=True),
    ("change-request-approve", "post"): Ask(
        _request, body=lambda: {"diff_hash": of(ChangeRequest).diff_hash, "reason": REASON}
    ),
    ("change-request-apply", "post"): Ask(_request, body=dict),
    ("change-request-reject", "post"): Ask(_request, body=lambda: {"reason": REASON}),
    # The plan holds what the caller may see of it: of the foreign tenant nothing.
    ("undo-actor", "post"): Ask(
        query="dry_run=1",
        body=lambda: {"actor": ROOT.name, "since": "2026-01-01T00:00:00Z", "reason": REASON},
        status=200,
    ),
    ("audit", "get"): Ask(status=200),
    ("audit-undo", "post"): Ask(
        lambda: {"seq": AuditEntry.objects.filter(tenant=FOREIGN, object_type="override").get().seq},
        body=lambda: {"reason": REASON},
    ),
}


def _core() -> dict[str, Any]:
    core: dict[str, Any] = orjson.loads(of(Selection).core)
    return {**core, "decision_id": str(uuid.uuid4())}


def patterns(resolver: Any = None, namespace: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Every pattern of the URLconf with its full name."""
    for pattern in (resolver or get_resolver()).url_patterns:
        if isinstance(pattern, URLResolver):
            inner = f"{pattern.namespace}:" if pattern.namespace else ""
            yield from patterns(pattern, namespace + inner)
        else:
            yield namespace + (pattern.name or ""), pattern


def api_endpoints() -> Iterator[tuple[str, str]]:
    """Name and method of everything outside of the admin that is not public."""
    for name, pattern in patterns():
        if name.startswith("admin:") or name in PUBLIC or not name:
            continue
        view: Any = getattr(pattern.callback, "cls", None)
        assert view is not None, f"{name} is no API view: is it public?"
        for method in ("get", "post", "put", "patch", "delete"):
            if hasattr(view, method):
                yield name, method


API = sorted(api_endpoints())


def ask(client: Client, name: str, method: str, key: dict[str, str] | None) -> Any:
    how = ENDPOINTS[name, method]
    path = reverse(name, kwargs=how.arguments())
    headers = {**(key or {})}
    if how.if_match:
        shown = call(Client(), "get", path.removeprefix("/api/v1"), key=factories.key(tenants=()))
        headers["If-Match"] = shown["ETag"] if shown.has_header("ETag") else '"1"'
    body = how.body()
    data = b"" if body is None else orjson.dumps(body)
    url = f"{path}?{how.query}" if how.query else path
    return client.generic(method.upper(), url, data, content_type="application/json", headers=headers)


def test_every_endpoint_of_the_urlconf_is_known_here() -> None:
    assert set(API) == set(ENDPOINTS)


@pytest.mark.parametrize(("name", "method"), API)
def test_a_foreign_tenant_is_a_404_for_a_key(client: Client, name: str, method: str) -> None:
    world()
    answer = ask(client, name, method, factories.key(tenants=(OWN,)))
    if (name, method) == ("change-request-approve", "post"):
        assert answer.status_code == 403  # no key approves anything
        return
    _is_hidden(answer, ENDPOINTS[name, method].status)


def _is_hidden(answer: Any, status: int) -> None:
    assert answer.status_code == status, answer.content
    if status in (200, 202):
        assert FOREIGN not in answer.content.decode()
    if status == 422:
        assert answer.json()["rejected"][0]["code"] == "unknown_tenant", answer.json()


#: Of these verbs people have none.
MACHINES = {("completions", "post"), ("selections-batch", "post"), ("selections", "post"), ("policy", "get")}


@pytest.mark.parametrize(("name", "method"), [one for one in API if one not in MACHINES])
def test_a_foreign_tenant_is_a_404_for_a_person_with_every_right_at_another(
    client: Client, name: str, method: str
) -> None:
    world()
    client.force_login(_at_own("everything", Permission.objects.all()))
    _is_hidden(ask(client, name, method, None), ENDPOINTS[name, method].status)


@pytest.mark.parametrize(("name", "method"), API)
def test_a_missing_right_is_a_403(client: Client, name: str, method: str) -> None:
    world()
    verb = "ingest" if name != "completions" else "select"
    assert ask(client, name, method, factories.key(verb, tenants=())).status_code == 403
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert ask(client, name, method, None).status_code == 403


@pytest.mark.parametrize(("name", "method"), API)
def test_nobody_is_a_401(client: Client, name: str, method: str) -> None:
    world()
    assert ask(client, name, method, None).status_code == 401
    client.force_login(User.objects.create_user("guest"))  # signed in, but no staff
    assert ask(client, name, method, None).status_code == 403


# --- the admin's pages ---

REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)
#: Pages that belong to no model, and what nobody gets there.
ADMIN_PAGES = {
    "index": 302,
    "login": 200,
    "logout": 302,
    "password_change": 302,
    "password_change_done": 302,
    "autocomplete": 302,
    "jsi18n": 302,
    "view_on_site": 302,
    "app_list": 302,
}
CENTER_PATTERNS: dict[str, URLPattern] = {
    name.removeprefix("admin:"): pattern
    for name, pattern in patterns()
    if name == "admin:overview" or name.startswith("admin:center_")
}
CENTER = sorted(CENTER_PATTERNS)
VIEWS = ("changelist", "add", "change", "delete", "history")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "view_on_site": {"content_type_id": 1, "object_id": 1},
    "app_list": {"app_label": "catalog"},
}


def _at_own(name: str, permissions: Any) -> User:
    """A person with these permissions at the own tenant."""
    user = User.objects.create_user(name, is_staff=True)
    group = Group.objects.create(name=f"{name} at one")
    group.permissions.set(permissions)
    TenantGrant.objects.create(user=user, group=group, tenant=Tenant.objects.get(slug=OWN))
    return user


def _path(model: type[Model], view: str, pk: Any = 1) -> str:
    arguments = [pk] if view in ("change", "delete", "history") else []
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{view}", args=arguments)


def test_every_page_of_the_admin_is_known_here() -> None:
    known = {f"admin:{page}" for page in (*ADMIN_PAGES, *CENTER)} | {
        "admin:auth_user_password_change",
        "admin:",
    }
    known |= {
        f"admin:{model._meta.app_label}_{model._meta.model_name}_{view}"
        for model in REGISTERED
        for view in VIEWS
    }
    assert {name for name, _ in patterns() if name.startswith("admin:")} == known


def center_address(name: str) -> str:
    """Of a page of the Command Center, where it is about something, about the foreign tenant's."""
    pattern = CENTER_PATTERNS[name]
    converters = set(pattern.pattern.converters)
    told: dict[str, Any] = {"tenant": FOREIGN, "persona": "essayist", "step": "approve", "what": "pause"}
    if "pk" in converters:
        model = ChangeRequest if "request" in name else Rollout if "rollout" in name else Override
        told["pk"] = of(model).pk
    if "decision_id" in converters:
        told["decision_id"] = of(Selection).decision_id
    if "seq" in converters:
        told["seq"] = AuditEntry.objects.filter(tenant=FOREIGN).latest("seq").seq
    return reverse(f"admin:{name}", kwargs={key: told[key] for key in converters})


def _get_or_post(client: Client, path: str) -> Any:
    answer = client.get(path)
    return client.post(path, {"reason": REASON}) if answer.status_code == 405 else answer


@pytest.mark.parametrize("name", CENTER)
def test_the_command_center_is_for_people_with_a_role(client: Client, name: str) -> None:
    world()
    path = center_address(name)
    answer = _get_or_post(client, path)
    assert (answer.status_code, answer["Location"].startswith("/admin/login/")) == (302, True)
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert _get_or_post(client, path).status_code == 403


@pytest.mark.parametrize("name", CENTER)
def test_the_command_center_shows_nothing_of_a_foreign_tenant(client: Client, name: str) -> None:
    world()
    client.force_login(_at_own("everything", Permission.objects.all()))
    answer = _get_or_post(client, center_address(name))
    if CENTER_PATTERNS[name].pattern.converters:
        assert answer.status_code == 404
        return
    assert answer.status_code in (200, 302, 400, 403)
    told = b"".join(answer.streaming_content) if answer.streaming else answer.content
    assert FOREIGN not in told.decode()


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: str(model._meta.label))
def test_nobody_gets_the_login_page_and_staff_without_rights_a_403(
    client: Client, model: type[Model]
) -> None:
    paths = [_path(model, view) for view in VIEWS]
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/login/")
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    for path in paths:
        # What is not there is not there for anybody; what is there takes a right.
        assert client.get(path).status_code in (403, 404), path
    assert client.get(_path(model, "changelist")).status_code == 403


def test_pages_of_no_model_ask_nobody_to_sign_in(client: Client) -> None:
    for page, status in ADMIN_PAGES.items():
        assert client.get(reverse(f"admin:{page}", kwargs=ARGUMENTS.get(page))).status_code == status, page


BOUND = [model for model in REGISTERED if (told := tenancy_of(model)) is not None and told.path is not None]


@pytest.mark.parametrize("model", BOUND, ids=lambda model: str(model._meta.label))
def test_a_foreign_tenant_s_row_is_a_404_in_the_admin(client: Client, model: type[Model]) -> None:
    world()
    client.force_login(_at_own("everything", Permission.objects.all()))
    listed = client.get(_path(model, "changelist"))
    assert listed.status_code == 200
    assert FOREIGN not in listed.content.decode()
    foreign, own = of(model), of(model, OWN)
    assert own is not None
    assert client.get(_path(model, "change", own.pk)).status_code == 200
    looks_only = isinstance(admin.site._registry[model], LookOnly)
    for view in ("change", "delete", "history"):
        # Where nobody deletes or changes anything, that is said first, of one's own rows as of others'.
        status = 403 if looks_only and view == "delete" else 404
        assert client.get(_path(model, view, foreign.pk)).status_code == status, view
        status = 403 if looks_only and view != "history" else 404
        assert client.post(_path(model, view, foreign.pk), {"post": "yes"}).status_code == status, view


@pytest.mark.parametrize(
    "model", [model for model in REGISTERED if model not in BOUND], ids=lambda model: str(model._meta.label)
)
def test_what_belongs_to_no_tenant_takes_a_right_that_holds_for_all(
    client: Client, model: type[Model]
) -> None:
    world()
    Webhook.objects.create(name=FOREIGN, url="https://example.com", secret="x")
    client.force_login(_at_own("everything", Permission.objects.all()))
    shared = tenancy_of(model) is not None
    answer = client.get(_path(model, "changelist"))
    assert answer.status_code == (200 if shared else 403)
    assert FOREIGN not in answer.content.decode()
    assert client.get(_path(model, "add")).status_code == 403
    row: Any = model._default_manager.first()
    if shared and row is not None:
        shown = client.get(_path(model, "change", row.pk))
        assert FOREIGN not in shown.content.decode()
        assert client.post(_path(model, "change", row.pk), {"name": "mine"}).status_code == 403


def test_autocomplete_offers_no_foreign_tenant(client: Client) -> None:
    world()
    client.force_login(_at_own("everything", Permission.objects.all()))
    query = {"app_label": "catalog", "model_name": "scopedefault", "field_name": "tenant", "term": ""}
    offered = client.get(reverse("admin:autocomplete"), query)
    assert [one["text"] for one in offered.json()["results"]] == [OWN]


def test_a_key_is_no_way_into_the_admin(client: Client) -> None:
    assert client.get("/admin/", headers=factories.key(tenants=())).status_code == 302
    assert ServiceKey.objects.exists()
    assert KillSwitch.objects.count() == 0
