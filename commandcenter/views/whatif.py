"""What-if: move weights, SLA, prices and profiles, see which winners flip and what that costs, then save a part."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from catalog.access import Caller
from catalog.models import ModelProfile, Persona
from catalog.prices import PriceBook, load_price_book
from commandcenter import acting, whatif, whatif_saving
from commandcenter.audited import actor_of
from commandcenter.diffs import difference
from commandcenter.rights import missing
from commandcenter.shell import is_fragment, page, render
from commandcenter.toasts import with_toast
from commandcenter.whatif import Asked
from commandcenter.whatif_saving import Meanwhile, Part
from overrides import approvals, selectors
from overrides.settings import Changed
from routing.bundle import caught_up_bundle, current_bundle
from routing.engine import Bundle
from routing.proposed import NotKnownYet
from routing.whatif import Hypothesis
from routing.whatif_answer import CannotSay, tell, what_if

#: Scopes shown; the sums are of all.
SHOWN = 25


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a page is made of."""

    bundle: Bundle
    persona: Persona
    book: PriceBook
    asked: Asked
    at: datetime


@require_http_methods(["GET", "POST"])
@page
def what_if_page(request: HttpRequest, who: Caller) -> HttpResponse:
    """GET: the page; asked by htmx, what the fields come to. POST: save one part of it."""
    at, bundle = timezone.now(), current_bundle()
    fields = request.POST if request.method == "POST" else request.GET
    persona = _persona(fields.get("persona", ""), bundle)
    if persona is None:
        return render(request, who, "center/whatif.html", {"title": "What-if", "personas": []})
    book = load_price_book()
    shown = _Shown(bundle, persona, book, whatif.read(fields, persona, bundle, book, at), at)
    if shown.asked.tenant and not (who.may_see(shown.asked.tenant) and shown.asked.tenant in bundle.tenants):
        raise Http404("There is no such tenant that you may see.")
    if request.method == "POST":
        return _save(request, who, shown)
    return _look(request, who, shown)


def _persona(slug: str, bundle: Bundle) -> Persona | None:
    """The one that is named, else the first; None: there is none at all."""
    if slug and slug not in bundle.personas:
        raise Http404("There is no such persona.")
    wanted = slug or min(bundle.personas, default=None)
    return Persona.objects.select_related("default_profile").filter(slug=wanted).first()


def _look(request: HttpRequest, who: Caller, shown: _Shown) -> HttpResponse:
    address = f"{reverse('admin:center_whatif')}?{shown.asked.query}"
    if is_fragment(request):
        # Something was taken back from a toast: what stands is another one, too.
        anew = request.headers.get("HX-Target") == "whatif"
        template = "center/whatif_body.html" if anew else "center/whatif_outcome.html"
        answer = render(request, who, template, _whole(who, shown) if anew else _outcome(who, shown))
        # Nothing but what is changed, so that what is shared stays true when the rest moves on.
        answer["HX-Replace-Url"] = address
        return answer
    if "form" in request.GET:
        return HttpResponseRedirect(address)
    return render(request, who, "center/whatif.html", _whole(who, shown))


def _whole(who: Caller, shown: _Shown) -> dict[str, Any]:
    bundle, asked = shown.bundle, shown.asked
    return {
        "title": "What-if",
        "asked": asked,
        "weights": [one for one in asked.fields if one.kind.name in whatif.WEIGHTS],
        "limits": [one for one in asked.fields if one.kind.name not in whatif.WEIGHTS],
        "personas": sorted(bundle.personas),
        "tenants": sorted(slug for slug in bundle.tenants if who.may_see(slug))[:_MOST_TENANTS],
        **_outcome(who, shown),
    }


#: Suggested as one types; others can be typed as well.
_MOST_TENANTS = 500


def _outcome(who: Caller, shown: _Shown) -> dict[str, Any]:
    """What the fields come to, and what of it could be saved."""
    asked = shown.asked
    context: dict[str, Any] = {"asked": asked, "key": acting.key_of({}), "shown": SHOWN}
    if not asked.is_changed:
        return context
    hypothesis = whatif.checked(asked, shown.bundle, shown.book, shown.at)
    if isinstance(hypothesis, tuple):
        return {**context, "problems": hypothesis}
    told = _told(who, shown, hypothesis)
    if "problems" in told:
        return {**context, **told}
    parts = whatif_saving.parts_of(asked, shown.persona, shown.book, who, shown.at)
    return {**context, **told, "parts": parts, "may_save": any(part.lacking is None for part in parts)}


def _told(who: Caller, shown: _Shown, hypothesis: Hypothesis) -> dict[str, Any]:
    tenants = frozenset({shown.asked.tenant}) if shown.asked.tenant else who.tenants
    try:
        return {"told": tell(what_if(hypothesis, tenants, shown.at), SHOWN)}
    except ValidationError as error:
        return {"problems": whatif.complaints(error)}
    except NotKnownYet as name:
        return {"problems": (f"The policy that this process decides by does not know {name} yet.",)}
    except CannotSay as error:
        return {"problems": (str(error),)}


def _save(request: HttpRequest, who: Caller, shown: _Shown) -> HttpResponse:
    part = _part(request, who, shown)
    if part.lacking:
        raise PermissionDenied(part.lacking)
    reason, at, actor = acting.reason_of(request.POST), shown.at, actor_of(request)
    if len(reason) < 10:
        return _refused(request, who, shown, {"errors": {"reason": acting.SHORT}}, 400)
    seen = request.POST.get(part.field, "")

    def act() -> dict[str, Any]:
        change = whatif_saving.change_of(shown.asked, part, shown.persona, seen, reason, at)
        return acting.answer_of(approvals.submit(change, actor, at), change, actor, at)

    try:
        done = acting.once(request, who, at, act)
    except (Changed, Meanwhile) as changed:
        return _refused(request, who, shown, {"theirs": _theirs(who, shown, part, changed.current)}, 409)
    except acting.REFUSALS as error:
        return _refused(request, who, shown, {"errors": {"part": acting.sentence(error)}}, 400)
    bundle = caught_up_bundle()
    return _saved(request, who, shown, part, done, bundle)


def _part(request: HttpRequest, who: Caller, shown: _Shown) -> Part:
    """The part that its button names. Of what was saved by another form meanwhile nothing is left to change."""
    what = request.POST.get("what", "")
    parts = whatif_saving.parts_of(shown.asked, shown.persona, shown.book, who, shown.at)
    part = next((part for part in parts if part.what == what), None)
    if part is None:
        if what != "persona" and what.partition(":")[2] not in shown.bundle.profiles:
            raise BadRequest("what: persona, or profile: with a profile's name.")
        kind = "persona" if what == "persona" else "modelprofile"
        return Part(what, "", (), "", missing(who, kind, None))
    return part


def _refused(
    request: HttpRequest, who: Caller, shown: _Shown, more: dict[str, Any], status: int
) -> HttpResponse:
    """What is shown stays, with why it was not saved."""
    context = {**_whole(who, shown), "reason": acting.reason_of(request.POST), **more}
    if not is_fragment(request):
        return render(request, who, "center/whatif.html", context, status)
    answer = render(request, who, "center/whatif_outcome.html", context, status)
    answer["HX-Retarget"] = "#outcome"
    return answer


def _theirs(who: Caller, shown: _Shown, part: Part, current: dict[str, Any]) -> dict[str, Any]:
    """What somebody else did to it, as far as one may see who, beside what one wants oneself."""
    row: Any = shown.persona
    names: Any = shown.asked.values
    if part.what != "persona":
        row = ModelProfile.objects.filter(slug=part.what.partition(":")[2]).first()
        names = ("enabled", "prices")
    about = {"object_type": row._meta.model_name, "object_id": str(row.pk)} if row else {"object_id": ""}
    entries = selectors.audit_entries(who.tenants).filter(**about)
    now = {name: current.get(name) for name in names}
    return {"part": part, "entry": entries.first(), "now": difference(None, now)}


#: Whether it is the persona to when what was saved counts.
_WHEN = {
    True: "The next scoring run, within a minute, ranks by it.",
    False: "Its state counts at once, a price for completions from now on.",
}


def _saved(
    request: HttpRequest, who: Caller, shown: _Shown, part: Part, done: dict[str, Any], bundle: Bundle
) -> HttpResponse:
    """The page anew: what was saved is what stands now, what was not is still asked."""
    persona = _persona(shown.persona.slug, bundle)
    if persona is None:
        raise Http404("There is no such persona any more.")
    book = load_price_book()
    fresh = _Shown(
        bundle, persona, book, whatif.read(request.POST, persona, bundle, book, timezone.now()), shown.at
    )
    address = f"{reverse('admin:center_whatif')}?{fresh.asked.query}"
    toast = acting.toast_of(done, f"{part.title} is saved. {_WHEN[part.what == 'persona']}")
    if not is_fragment(request):
        messages.info(request, toast.text)
        return HttpResponseRedirect(address)
    answer = render(request, who, "center/whatif_body.html", _whole(who, fresh))
    answer["HX-Replace-Url"] = address
    answer["HX-Trigger-After-Settle"] = "state-changed"
    return with_toast(request, answer, toast)
