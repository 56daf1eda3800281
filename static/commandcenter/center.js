// The Command Center's behaviour that HTML and htmx do not have: toasts that go by themselves, polling that knows when to
// rest, keys, focus, and the viewer's own time zone.
"use strict";

const TOAST_MILLISECONDS = 10_000;

// --- Toasts: plain ones go after 10 s, unless somebody points at them or is inside; others wait to be dismissed ---

function keepTime(toast) {
  if (toast.dataset.timed || "stays" in toast.dataset) return;
  toast.dataset.timed = "1";
  let timer;
  const start = () => { timer = setTimeout(() => toast.remove(), TOAST_MILLISECONDS); };
  const stop = () => clearTimeout(timer);
  for (const name of ["mouseenter", "focusin"]) toast.addEventListener(name, stop);
  for (const name of ["mouseleave", "focusout"]) toast.addEventListener(name, start);
  start();
}

function watchToasts() {
  for (const id of ["toasts", "alerts"]) {
    const region = document.getElementById(id);
    new MutationObserver(() => region.querySelectorAll(".toast").forEach(keepTime)).observe(region, { childList: true, subtree: true });
  }
}

function dismiss(toast) {
  const held = toast.contains(document.activeElement);
  toast.remove();
  if (held) document.getElementById("content-start").focus();
}

function fail(text) {
  const toast = document.getElementById("failure-toast").content.firstElementChild.cloneNode(true);
  toast.querySelector("p").textContent = text;
  toast.dataset.stays = "1";
  const region = document.getElementById("alerts");
  // The same failure again, such as a poll's, is said once.
  const said = [...region.querySelectorAll("p")].some((one) => one.textContent === text);
  if (!said) region.append(toast);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".toast .dismiss");
  if (button) dismiss(button.closest(".toast"));
  const undo = event.target.closest(".toast form button");
  if (undo) undo.closest(".toast").dataset.undoing = "1";
});

document.addEventListener("htmx:afterRequest", (event) => {
  const toast = event.detail.elt.closest ? event.detail.elt.closest(".toast") : null;
  if (toast && event.detail.successful) dismiss(toast);
});

// --- Failures: what was typed stays, because nothing is swapped ---

document.addEventListener("htmx:sendError", () => fail("The server cannot be reached. Nothing was changed; what you typed is still here."));
document.addEventListener("htmx:timeout", () => fail("The server did not answer in time. Look at the activity log before you try again."));
document.addEventListener("htmx:responseError", (event) => {
  const status = event.detail.xhr.status;
  if (status === 401 || status === 403) fail("You may not do this, or your session has ended: sign in again.");
  else if (status === 404) fail("It is not there any more. Reload the page.");
  else if (status === 429) fail("Too many requests. Try again in a minute.");
  else fail(`The server failed (${status}). Nothing was swapped; what you typed is still here.`);
});

// --- Polling: conditional, and at rest while the page is hidden or somebody is at work in a panel ---

const tags = new WeakMap();

function isAtWork() {
  return document.hidden || document.querySelector("[data-open-panel], dialog[open]") !== null;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const asks = event.detail.elt;
  if (asks.hasAttribute("data-poll") && !event.detail.requestConfig.triggeringEvent && isAtWork()) event.preventDefault();
});

document.addEventListener("htmx:configRequest", (event) => {
  // The address is what somebody filters and pages by; what is asked again follows it.
  if (event.detail.elt.hasAttribute("data-follows-url")) event.detail.path = location.pathname + location.search;
  const tag = tags.get(event.detail.elt);
  if (event.detail.elt.hasAttribute("data-poll") && tag && tag.path === event.detail.path) event.detail.headers["If-None-Match"] = tag.value;
});

document.addEventListener("htmx:afterRequest", (event) => {
  const elt = event.detail.elt;
  const value = event.detail.xhr && event.detail.xhr.getResponseHeader("ETag");
  if (elt.hasAttribute && elt.hasAttribute("data-poll") && value) tags.set(elt, { path: event.detail.requestConfig.path, value });
});

// --- Panels: focus goes in when they open and back to their opener when they close ---

let opener = null;

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-opens]");
  if (button) opener = button.id;
  const closes = event.target.closest("[data-close-panel]");
  if (closes) closePanel(closes.closest("[data-open-panel]"));
  const copy = event.target.closest("[data-copies]");
  if (copy) copyText(copy);
});

// A list that is swapped under a panel, open or still on its way (a poll or a search that was asked for a moment before
// it), takes the panel along: then it is opened anew, from the new list.

let opening = null;
let reopens = null;

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.matches("[data-opens]")) opening = event.detail.elt;
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.elt === opening && opening.isConnected) opening = null;
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { requestConfig, target, elt } = event.detail;
  if (!requestConfig || requestConfig.verb !== "get" || elt.matches("[data-opens]")) return;
  const panel = document.querySelector("[data-open-panel]");
  if (!(panel && target !== panel && target.contains(panel)) && !(opening && target.contains(opening))) return;
  // What polls has time; what somebody asked for is shown.
  if (elt.hasAttribute("data-poll") && !requestConfig.triggeringEvent) event.detail.shouldSwap = false;
  else reopens = { id: opening ? opening.id : opener, list: target };
});

document.addEventListener("htmx:afterSettle", (event) => {
  // Another fragment may settle in between.
  if (!reopens || event.detail.target !== reopens.list) return;
  const again = document.getElementById(reopens.id);
  opening = reopens = null;
  if (again) again.click();
});

function giveUpOpening() {
  if (opening) htmx.trigger(opening, "htmx:abort");
  const back = document.getElementById(opening ? opening.id : reopens.id);
  opening = reopens = null;
  if (back) back.focus();
}

function closePanel(panel) {
  if (!panel) return;
  const card = panel.closest(".card");
  panel.remove();
  if (card) card.classList.remove("opened");
  const back = opener && document.getElementById(opener);
  if (back) back.focus();
}

document.addEventListener("htmx:afterSettle", (event) => {
  const panel = event.detail.elt.closest && event.detail.elt.querySelector("[data-open-panel]:not([data-focused])");
  if (panel) {
    panel.dataset.focused = "1";
    const card = panel.closest(".card");
    if (card) card.classList.add("opened");
    (panel.querySelector("[autofocus]") || panel.querySelector("h2, h3")).focus();
  }
  localiseTimes(document);
});

// A change swaps the whole card: the button that opened the panel is a new one with the old one's id.
document.addEventListener("htmx:afterSettle", (event) => {
  const asked = event.detail.requestConfig;
  if (!asked || asked.verb !== "post" || !opener || document.querySelector("[data-open-panel]")) return;
  const back = document.getElementById(opener);
  opener = null;
  if (back) back.focus();
});

async function copyText(button) {
  const source = document.getElementById(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = "Selected: press Ctrl+C";
  }
}

// --- A link that takes the page's filters along, whatever they are when it is followed ---

document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-adds-query]");
  if (!link) return;
  const query = new URLSearchParams(location.search);
  query.delete("page");
  query.set("all", "1");
  link.search = query.toString();
});

// --- Keys ---

let went = false;

function isTyping(target) {
  return target.closest("input, textarea, select, [contenteditable]") !== null;
}

function step(by) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const now = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[Math.min(Math.max(now + by, 0), rows.length - 1)];
  (next.querySelector("a, button") || next).focus();
}

function inRow(selector) {
  const row = document.activeElement && document.activeElement.closest("[data-row]");
  return row ? row.querySelector(selector) : null;
}

const GO = { o: "overview", f: "center_flags", a: "center_audit", t: "center_telemetry" };

function onKey(event) {
  if (event.key === "Escape") {
    const panels = document.querySelectorAll("[data-open-panel]");
    if (panels.length) closePanel(panels[panels.length - 1]);
    else if (opening || reopens) giveUpOpening();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (went) {
    went = false;
    const tab = GO[event.key] && document.querySelector(`a.tab[data-tab="${GO[event.key]}"]`);
    if (tab) tab.click();
    return;
  }
  const acts = {
    "/": () => document.querySelector("[data-search]"),
    "?": () => { document.getElementById("keys").showModal(); return null; },
    j: () => { step(1); return null; },
    k: () => { step(-1); return null; },
    o: () => inRow("[data-opens]"),
    x: () => inRow("input[type=checkbox]"),
    g: () => { went = true; return null; },
  };
  const act = acts[event.key];
  if (!act) return;
  event.preventDefault();
  const found = act();
  if (!found) return;
  if (event.key === "/") { found.focus(); found.select(); } else { found.click(); }
}

// --- Times: stored and sent in UTC, shown in the viewer's zone with UTC beside ---

function localiseTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
    time.dataset.local = "1";
    const at = new Date(time.getAttribute("datetime"));
    const local = at.toLocaleString([], { dateStyle: "medium", timeStyle: "short", timeZoneName: undefined });
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if ("moment" in time.dataset) time.textContent = `${local} (${time.textContent})`;
    else time.title = `${local} ${zone}, ${time.title}`;
  }
}

document.addEventListener("keydown", onKey);
document.addEventListener("DOMContentLoaded", () => { watchToasts(); localiseTimes(document); });
