"""The override panel of a scope: pick, see what it would do, apply, take it back."""

from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from catalog.access import Caller
from commandcenter.activity import recent
from commandcenter.audited import actor_of
from commandcenter.cards import card_of, cards_of
from commandcenter.overriding import (
    EXPIRIES,
    Chosen,
    complaints,
    is_broad,
    may_apply,
    read,
    standing,
    tag_of,
)
from commandcenter.shell import page, render
from commandcenter.toasts import Toast, only_toast, with_toast
from commandcenter.trends import trends_of
from commandcenter.views.overview import counts_of, view_of
from overrides import approvals, changes, four_eyes, idempotency, selectors, services
from overrides.changes import Change
from overrides.models import AuditEntry, Override
from overrides.previewing import preview
from overrides.proposing import proposal_of
from overrides.services import Conflict, NotStanding
from overrides.shadowing import shadowing
from routing.bundle import caught_up_bundle, current_bundle
from routing.engine import Bundle


def _check_scope(who: Caller, bundle: Bundle, tenant: str, persona: str) -> None:
    if not who.may_see(tenant) or tenant not in bundle.tenants or persona not in bundle.personas:
        raise Http404("There is no such scope that you may see.")
    if not who.may("override", tenant):
        raise PermissionDenied("This takes the role operator at this tenant.")


@page
def panel(request: HttpRequest, who: Caller, tenant: str, persona: str) -> HttpResponse:
    """GET: the panel. POST: make the override."""
    bundle = current_bundle()
    _check_scope(who, bundle, tenant, persona)
    if request.method == "POST":
        return _apply(request, who, read(request.POST, tenant, persona))
    return _panel(request, who, read(request.GET, tenant, persona))


@require_GET
@page
def panel_preview(request: HttpRequest, who: Caller, tenant: str, persona: str) -> HttpResponse:
    """What the choice would do."""
    _check_scope(who, current_bundle(), tenant, persona)
    chosen = read(request.GET, tenant, persona)
    told = _previewed(request, who, chosen) if chosen.profile and may_apply(chosen, who) else None
    return render(request, who, "center/_preview.html", {"chosen": chosen, "told": told})


def _previewed(request: HttpRequest, who: Caller, chosen: Chosen) -> dict[str, Any]:
    """The preview with what it shadows and whether it wants confirming; ``problem`` when it would be refused."""
    now = timezone.now()
    reasoned = Chosen(
        **{**_fields(chosen), "reason": chosen.reason if len(chosen.reason) >= 10 else "a preview of it"}
    )
    change = reasoned.change(now)
    try:
        about = changes.touched(change)
        after = changes.rehearse(change, actor_of(request), now)
    except ValidationError as error:
        return {"problem": " ".join(error.messages)}
    proposal = proposal_of(change, after)
    told = preview(proposal, who.tenants, now)
    return {
        **told,
        "shadowing": shadowing(proposal.add[0], now, who.tenants),
        "broad": is_broad(chosen, told),
        "waits": four_eyes.protected(about.scopes),
        "first": told["scopes"][:5],
    }


def _fields(chosen: Chosen) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in Chosen.__slots__}


def _panel(
    request: HttpRequest, who: Caller, chosen: Chosen, conflict: Any = None, status: int = 200
) -> HttpResponse:
    now, bundle = timezone.now(), current_bundle()
    scores = bundle.scores(chosen.tenant, chosen.persona)
    cards = {card.profile: card for card in scores.scorecards} if scores else {}
    usable = [slug for slug in bundle.profiles if bundle.why_unusable(slug) is None]
    order = [*(slug for slug in cards if slug in usable), *(slug for slug in usable if slug not in cards)]
    rows = standing(who, chosen.tenant, chosen.persona, now)
    context = {
        "chosen": chosen,
        "candidates": [(slug, cards.get(slug)) for slug in order],
        "current": card_of(bundle, chosen.tenant, chosen.persona, now),
        "kinds": Override.Kind.choices,
        "expiries": [(value, label) for value, (_, label) in EXPIRIES.items()],
        "may_never_expire": who.may("no_expiry", chosen.tenant),
        "may_widen": who.may("override", None) and who.may("global_scope", None),
        "standing": rows,
        "seen": tag_of(rows),
        "conflict": conflict,
        "told": _previewed(request, who, chosen) if chosen.profile and may_apply(chosen, who) else None,
    }
    answer = render(request, who, "center/_panel.html", context, status)
    if status != 200:
        # What was refused stays in the panel, where it was typed.
        answer["HX-Retarget"] = f"#slot-{context['current'].anchor}"
        answer["HX-Reswap"] = "innerHTML"
    return answer


def _apply(request: HttpRequest, who: Caller, chosen: Chosen) -> HttpResponse:
    now = timezone.now()
    if not may_apply(chosen, who):
        raise PermissionDenied("A change for all tenants takes the right 'all tenants at once'.")
    told = _previewed(request, who, chosen) if chosen.profile else {}
    errors = complaints(chosen, who, bool(told.get("broad")))
    if "problem" in told:
        errors["profile"] = told["problem"]
    if errors:
        return _panel(request, who, Chosen(**{**_fields(chosen), "errors": errors}), status=400)

    def act() -> idempotency.Answer:
        # Asked inside, so that a repeat of what was done gets its answer, and no conflict with itself.
        rows = standing(who, chosen.tenant, chosen.persona, now)
        if chosen.seen != tag_of(rows):
            raise _Meanwhile
        outcome = approvals.submit(chosen.change(now), actor_of(request), now)
        if outcome.request is not None:
            return 202, {"change_request": outcome.request.pk}
        return 201, outcome.after or {}

    print_ = idempotency.fingerprint("panel", request.path, chosen.key)
    try:
        status, done = idempotency.once(who.name, chosen.key, print_, now, act)
    except _Meanwhile:
        return _panel(request, who, chosen, conflict=_what_happened(who, chosen), status=409)
    except ValidationError as error:
        errors = {"profile": " ".join(error.messages)}
        return _panel(request, who, Chosen(**{**_fields(chosen), "errors": errors}), status=400)
    if status == 202:
        text = f"Nothing is changed yet: change request {done['change_request']} waits for somebody else's approval."
        return _changed(request, who, chosen.tenant, chosen.persona, Toast(text, "warning"))
    text = f"{done['kind'].capitalize()} {done['profile']} for {chosen.name}: override #{done['id']} is in effect."
    toast = Toast(
        text, undo=reverse("admin:center_undo", args=[done["id"]]), fields=_undo_fields(chosen, done)
    )
    return _changed(request, who, chosen.tenant, chosen.persona, toast)


class _Meanwhile(Exception):
    """Somebody made, changed or ended an override of the scope since the panel was shown."""


def _what_happened(who: Caller, chosen: Chosen) -> dict[str, Any]:
    """The newest change of an override of this scope, and what one was about to do."""
    rows = standing(who, chosen.tenant, chosen.persona, timezone.now())
    ids = [str(row.pk) for row in rows]
    scope = {"after__tenant": chosen.tenant, "after__persona": chosen.persona}
    entries = selectors.audit_entries(who.tenants).filter(object_type=services.OBJECT_TYPE)
    entry = entries.filter(object_id__in=ids).first() or entries.filter(**scope).first()
    ended = entries.filter(tenant=chosen.tenant).first()
    newest = max((one for one in (entry, ended) if one is not None), key=lambda one: one.seq, default=None)
    return {"entry": newest, "differences": _differences(newest) if newest else []}


def _differences(entry: AuditEntry) -> list[tuple[str, Any, Any]]:
    before, after = entry.before or {}, entry.after or {}
    names = [name for name in after if before.get(name) != after[name] and name not in ("version", "id")]
    return [(name, before.get(name), after[name]) for name in names]


def _undo_fields(chosen: Chosen, done: dict[str, Any]) -> dict[str, Any]:
    return {"version": done["version"], "tenant": chosen.tenant, "persona": chosen.persona}


def _changed(
    request: HttpRequest, who: Caller, tenant: str, persona: str, toast: Toast, oob: bool = False
) -> HttpResponse:
    """The card as it is now, the counters and the activity log, and the toast."""
    now, bundle = timezone.now(), caught_up_bundle()
    card = card_of(bundle, tenant, persona, now)
    context = {
        "one": view_of(card, trends_of([card], now), who),
        "counts": counts_of(cards_of(bundle, who.tenants, now)),
        "entries": recent(who),
        "oob_card": oob,
    }
    answer = render(request, who, "center/_changed.html", context)
    answer["HX-Trigger-After-Settle"] = "cards-changed, state-changed"
    return with_toast(request, answer, toast)


def _scope_of(request: HttpRequest, who: Caller) -> tuple[str, str] | None:
    """The scope whose card is on the page, if the form says so."""
    tenant, persona = request.POST.get("tenant", ""), request.POST.get("persona", "")
    bundle = current_bundle()
    known = who.may_see(tenant) and tenant in bundle.tenants and persona in bundle.personas
    return (tenant, persona) if known else None


@require_POST
@page
def undo(request: HttpRequest, who: Caller, pk: int) -> HttpResponse:
    """Take the last change of an override back, from its toast."""
    return _end(request, who, pk, "override.undo", "Taken back from the toast", "Taken back")


@require_POST
@page
def revoke(request: HttpRequest, who: Caller, pk: int) -> HttpResponse:
    """End an override, from a panel."""
    reason = request.POST.get("reason", "").strip()[:500]
    if len(reason) < 10:
        told = Toast("Say why it ends, in 10 characters or more: others will ask.", "error")
        return only_toast(request, told, status=400)
    return _end(request, who, pk, "override.revoke", reason, "Revoked")


def _end(request: HttpRequest, who: Caller, pk: int, kind: str, reason: str, what: str) -> HttpResponse:
    row = selectors.visible(who.tenants).filter(pk=pk).first()
    if row is None:
        raise Http404("There is no such override that you may see.")
    tenant = row.tenant.slug if row.tenant else None
    if not who.may("override", tenant) or (tenant is None and not who.may("global_scope", None)):
        raise PermissionDenied("This takes the role operator at this tenant.")
    version = request.POST.get("version", "")
    change = Change(kind, str(pk), {"version": int(version) if version.isdecimal() else 0}, reason)
    try:
        outcome = approvals.submit(change, actor_of(request), timezone.now())
    except Conflict as conflict:
        by = AuditEntry.objects.filter(object_type=services.OBJECT_TYPE, object_id=str(pk)).first()
        who_did = f" by {by.actor}" if by else ""
        now_at = f"it is at version {conflict.current.version}"
        text = f"Override #{pk} was changed meanwhile{who_did} ({now_at}): look again."
        return only_toast(request, Toast(text, "error"), status=409)
    except (NotStanding, ValidationError) as error:
        text = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
        return only_toast(request, Toast(text, "error"), status=409)
    toast = _told(pk, what, outcome)
    scope = _scope_of(request, who)
    return _changed(request, who, *scope, toast, oob=True) if scope else only_toast(request, toast)


def _told(pk: int, what: str, outcome: approvals.Outcome) -> Toast:
    if outcome.request is not None:
        return Toast(f"Change request {outcome.request.pk} waits for somebody else's approval.", "warning")
    after = outcome.after or {}
    again = {"version": after["version"], "tenant": after["tenant"] or "", "persona": after["persona"] or ""}
    return Toast(f"{what}: override #{pk}.", undo=reverse("admin:center_undo", args=[pk]), fields=again)
