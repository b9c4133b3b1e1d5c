// The reading worklist: wires the list, the stream, the panel, the banner, the filters and the keys.

import { makeActs } from "./acts.js";
import { makeAround } from "./around.js";
import { ask } from "./api.js";
import { makeBanner } from "./banner.js";
import * as dialog from "./dialog.js";
import { makeFilters } from "./filters.js";
import { makeGrip } from "./grip.js";
import { somebodyIsHere } from "./idle.js";
import { bindKeys, keyed } from "./keys.js";
import { makeLeases } from "./leases.js";
import { List } from "./list.js";
import { follow } from "./live.js";
import { Panel } from "./panel.js";
import { makePlace } from "./place.js";
import { watchRest } from "./rest.js";
import { heard } from "./time.js";
import { openViews } from "./views.js";
import { t } from "./words.js";

const BATCH_MS = 2000;
const FIRST = 100;
const PAGE = 200;
const MOST = 500; // rows of one answer
const REFETCH_MAX = 1000;

const $ = (id) => document.getElementById(id);
const known = JSON.parse($("known").dataset.known);
heard($("known").dataset.now);

const heads = [...document.querySelectorAll(".rows thead tr:first-child th")].map((th) => th.className.slice(2));
const widths = new Map([...document.querySelectorAll(".rows col")].map((c) => [c.className.slice(2), c.dataset.width]));
for (const col of document.querySelectorAll(".rows col[data-width]")) if (col.dataset.width) col.style.width = `${col.dataset.width}px`;
const scroller = document.querySelector(".rows");
const list = new List({ scroller, body: $("rows"), table: document.querySelector(".rows table"), columns: heads.filter((id) => id !== "sel") });
const popped = () => document.querySelector(":popover-open") !== null;
const rest = watchRest(scroller, () => dialog.isOpen() || popped() || document.querySelector("details[open]") !== null);
const panel = new Panel($("panel"), { onAct: (name, finding) => onAct(name, finding), onOverlay: (uid) => acts.overlay(uid) });
const age = { stale: false, old: false, offline: false };
const afterAct = () => { refetch(); panel.refresh().catch(dialog.tell); }; // feedback changes no row, but the history
const acts = makeActs({ refresh: afterAct, row: (uid) => list.rows.get(uid), offers: (uid) => (panel.isOpen && panel.uid === uid ? panel.claimable : ""), known, stale: () => age.old || age.offline });
const banner = makeBanner($("banner"), $("shout"), {
  mayAct: known.mayAlert, keys: known.hints, open: (alert) => openStudy(alert.uid), acknowledge: acts.acknowledge, handover: acts.handover, later: acts.later,
  list: () => location.assign("/alerts"),
});
const leases = makeLeases({ known, rows: () => list.rows, openUid: () => panel.uid, keep: acts.keep });
const place = makePlace(scroller, list);
const filters = makeFilters({
  head: document.querySelector(".rows thead"), box: $("search").text, pick: $("pick"), page: { get: (name) => query.get(name), go: (changes) => go(changes) },
});
makeGrip($("grip"), $("panel"), known.panelWidth);

// --- asking the server ---------------------------------------------------------------------------------------------

let query = new URLSearchParams(location.search);
let etag = "";
let next = null;
let failed = null;
let last = null; // the newest answer
let asking = null;
let again = false;

function url(limit, cursor) {
  const wanted = new URLSearchParams(query);
  wanted.set("limit", String(limit));
  if (cursor) wanted.set("cursor", cursor);
  return `/worklist/rows?${wanted}`;
}

/** Ask for the rows from the top; calls that come meanwhile become one more call. `state`: where the reader was. */
async function refetch({ replace = false, state = null } = {}) {
  if (replace) { etag = ""; asking = null; }
  if (asking) { again = true; return; }
  const mine = (asking = {});
  try {
    const loaded = Math.min(Math.max(replace ? state?.count ?? 0 : list.shown.length, FIRST), REFETCH_MAX);
    const found = await pages(loaded, mine);
    if (asking !== mine || !found) return;
    failed = null;
    if (replace) list.replace(found.rows, found.total);
    else list.take(found.rows, found.total);
    if (replace || found.rows.length >= list.shown.length) next = found.next;
    last = found;
    drawAround();
    if (replace) place.restore(state);
  } catch (problem) {
    if (problem.status === undefined) throw problem;
    if (asking === mine) { failed = problem; around.bars(); }
  } finally {
    if (asking === mine) asking = null;
    if (again && !asking) { again = false; setTimeout(refetch, 300); }
  }
}

async function pages(count, mine) {
  let all = null;
  let cursor = "";
  while (!all || (cursor && all.rows.length < count)) {
    const limit = Math.min(MOST, count - (all?.rows.length ?? 0));
    const single = count <= MOST;
    const headers = single && etag ? { "If-None-Match": etag } : {};
    const answer = await ask(url(limit, cursor), { background: !somebodyIsHere(), headers });
    if (asking !== mine) return null;
    live.heard();
    if (answer.status === 304) { failed = null; around.bars(); return null; }
    heard(answer.said.as_of);
    etag = single ? answer.headers.get("ETag") ?? "" : "";
    all = all ? { ...answer.said, rows: [...all.rows, ...answer.said.rows] } : answer.said;
    cursor = answer.said.next;
  }
  return { ...all, next: cursor };
}

let appending = null;
/** The next page below; one at a time. Resolves to whether rows came. */
function more(limit = PAGE) {
  if (!next || list.coming) return Promise.resolve(false);
  appending ??= ask(url(limit, next), { background: true })
    .then(({ said }) => {
      next = said.next;
      appending = null;
      list.append(said.rows, said.total);
      return true;
    })
    .catch(() => { appending = null; return false; }); // the next scroll tries again; a bar tells when the server is away
  return appending;
}
// What is loaded is asked for again at every change: no more than a reader has come to.
list.onDraw = (lastDrawn) => { if (lastDrawn > list.shown.length - 30) more(); };
list.onSelect = (selected) => around.selected(selected.size);

async function toEnd() {
  while (await more(MOST));
  if (list.shown.length) list.select(list.shown.at(-1));
}

// --- drawing around the list -----------------------------------------------------------------------------------------

const around = makeAround({
  list, banner, rest, age, now: () => ({ last, failed, degraded: live.degraded }), keys: known.hints, refetch: () => refetch(), showHidden: () => showHidden(),
});

function drawAround() {
  filters.draw(last.texts);
  around.draw(filters.active.length > 0);
  if (panel.isOpen && list.rows.get(panel.uid)?.version !== panelVersion()) panel.refresh().catch(dialog.tell);
}
const panelVersion = () => Number($("panel").querySelector("header")?.dataset.version);

function applyChanges() {
  const { fresh, critical } = list.waiting();
  list.apply();
  around.applied(fresh, critical);
}

// --- live --------------------------------------------------------------------------------------------------------------

let soon = null;
const live = follow({
  onChange(kind, said) {
    if (said) leases.hear(said);
    if (kind === "poll") { refetch(); return; }
    // Spread a little, so that fifty pages do not ask in the same instant; an alert waits for nothing.
    if (kind === "alert") { clearTimeout(soon); soon = null; refetch(); }
    else soon ??= setTimeout(() => { soon = null; refetch(); }, 150 + Math.random() * 350);
  },
  onHealth(said) {
    heard(said.as_of);
    const parts = JSON.stringify(said.degraded.map((d) => d.part));
    if (live.degraded !== undefined && live.degraded !== parts) { etag = ""; refetch(); } // the words come with the rows
    live.degraded = parts;
    around.light();
  },
  onAge(is) {
    Object.assign(age, is);
    scroller.classList.toggle("old", age.old || age.offline);
    scroller.classList.toggle("guessed", age.stale || age.offline);
    around.light();
    around.bars();
  },
});

const clock = new Intl.DateTimeFormat("sv-SE", { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short", timeZone: known.zone });
setInterval(() => {
  list.tick();
  banner.tick();
  around.tick(clock);
  leases.tick();
}, 1000);
setInterval(() => {
  if (list.coming && rest.atRest && performance.now() - list.appliedAt > BATCH_MS) applyChanges();
  else around.changes();
}, 200);

// --- what a reader does ---------------------------------------------------------------------------------------------------

// One study is meant at a time: where the focus is in the list its row, and the panel follows that row.
const target = () => ($("rows").contains(document.activeElement) ? list.current : null) ?? panel.uid ?? list.current;
let following = 0;
function step(move) {
  move();
  clearTimeout(following);
  if (panel.isOpen) following = setTimeout(() => { if (panel.isOpen && list.current !== panel.uid) openPanel(list.current); }, 200);
}
const needTarget = (run) => () => { const uid = target(); if (uid) run(uid); else dialog.toast(t("Choose a study first (%(keys)s).", { keys: [known.hints.down ?? "↓", known.hints.up ?? "↑"].join(", ") })); };

async function openPanel(uid, tab) {
  try {
    place.now();
    await panel.open(uid, tab);
    $("grip").hidden = false;
    const path = `/worklist/${uid}`;
    if (location.pathname !== path) history.pushState(history.state, "", `${path}${search()}`);
    // A ring left behind on another patient's row would say that the keys mean that one.
    if (list.rows.has(uid)) list.select(uid, { focus: $("rows").contains(document.activeElement) });
    list.draw();
  } catch (problem) {
    if (problem.status === undefined) throw problem;
    dialog.tell(problem);
  }
}
function closePanel({ push = true } = {}) {
  const uid = panel.uid;
  panel.close();
  $("grip").hidden = true;
  if (push) history.pushState(history.state, "", `/worklist${search()}`);
  list.draw();
  if (uid && list.rows.has(uid)) list.select(uid);
}
const search = () => (query.toString() ? `?${query}` : "");

async function openStudy(uid) {
  if (!known.mayAct) { await openPanel(uid); return; }
  const claimed = await acts.claim(uid, { open: true });
  if (claimed) await shownFirst(uid);
}

async function nextStudy() {
  const item = await acts.next();
  if (item) await shownFirst(item.study_uid);
}

async function shownFirst(uid) {
  await openPanel(uid);
  refetch();
}

function alertOf(uid) {
  const id = list.rows.get(uid)?.alert;
  return (last?.banner ?? []).find((a) => a.uid === uid && (!id || a.id === id));
}
const someAlert = (run) => () => {
  const alert = (target() && alertOf(target())) ?? banner.first;
  if (alert) run(alert);
  else dialog.toast(t("No open alert here."));
};

function onAct(name, finding) {
  const uid = panel.uid;
  const table = {
    close: () => closePanel(), claim: () => openStudy(uid), release: () => acts.release(uid), raise: () => acts.raise(uid),
    report: () => acts.report(uid), agree: () => acts.agree(uid, finding), disagree: () => acts.disagree(uid, finding), missed: () => acts.missed(uid),
    acknowledge: someAlert(acts.acknowledge), handover: someAlert(acts.handover),
  };
  table[name]?.();
}

async function bulk() {
  const chosen = [...list.selected];
  if (!chosen.length) { dialog.toast(t("Select rows first (Space).")); return; }
  const refused = await acts.bulk(chosen);
  if (refused === "export") { exportList(); return; }
  if (refused) { list.selected = new Set(refused); list.draw(); }
}

/** Another tab, filter or sort: the URL says it, Back undoes it. */
function go(changes) {
  place.now();
  for (const [name, value] of Object.entries(changes)) if (value) query.set(name, value); else query.delete(name);
  history.pushState({}, "", `${panel.uid ? `/worklist/${panel.uid}` : "/worklist"}${search()}`);
  arrive();
}
function arrive(state = null) {
  around.here(query);
  filters.draw();
  scroller.scrollTop = 0;
  refetch({ replace: true, state });
}
const showHidden = () => filters.clearAll({ tab: "", priority_class: "critical" });

/** A column's header: up, down, and back to the true order. */
function sortBy(id) {
  if (query.get("sort") !== id) go({ sort: id, descending: "" });
  else if (!query.get("descending")) go({ descending: "true" });
  else go({ sort: "", descending: "" });
}
function toTrueOrder() {
  if (query.get("sort")) { go({ sort: "", descending: "" }); return; }
  rest.freeze(false);
  applyChanges();
  if (list.shown.length) list.select(list.shown[0]);
}

async function exportList() {
  const chosen = list.selected.size;
  const answer = await dialog.choose({
    title: t("Export: contains patient data"),
    text: chosen ? t("%(n)s selected rows.", { n: chosen }) : t("All %(n)s rows of this view. It is noted in the audit trail.", { n: list.total }),
    choices: [["csv", t("CSV file")], ["print", t("table to print")]],
  });
  if (!answer) return;
  const form = $("export-form");
  form.action = `/worklist/export${search()}`;
  form.target = answer.value === "print" ? "_blank" : "";
  form.kind.value = answer.value;
  form.uids.value = [...list.selected].join(",");
  form.submit();
}

function toggleFreeze() {
  rest.freeze(!rest.frozen);
  $("said").textContent = rest.frozen ? t("Order frozen for up to ten minutes") : t("Order live again");
  around.changes();
}

const openView = () => openViews({ known, columns: new Map([...widths].filter(([id]) => id !== "sel")), filters: () => Object.fromEntries([...query].filter(([name]) => !["search", "cursor", "limit"].includes(name))) });
const clickable = { changes: applyChanges, freeze: toggleFreeze, export: exportList, views: openView, bulk, clear: () => filters.clearAll() };
for (const [id, run] of Object.entries(clickable)) $(id).addEventListener("click", run);
$("search").addEventListener("submit", (event) => { event.preventDefault(); filters.look(); });
for (const link of document.querySelectorAll("[data-tab]")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ tab: link.dataset.tab === "to_read" ? "" : link.dataset.tab });
  });
}
for (const button of document.querySelectorAll("[data-sort]")) button.addEventListener("click", () => sortBy(button.dataset.sort));
const byFinger = matchMedia("(pointer: coarse)"); // no Enter there, and two taps mean zoom
const uidOf = (event) => event.target.closest("tr[data-uid]")?.dataset.uid;
$("rows").addEventListener("click", (event) => {
  const uid = uidOf(event);
  if (!uid || !list.reacts(uid)) { if (uid) event.preventDefault(); return; }
  if (event.target.matches("input")) { list.toggle(uid); return; }
  list.select(uid);
  if (panel.isOpen || byFinger.matches) openPanel(uid);
});
$("rows").addEventListener("dblclick", (event) => {
  const uid = uidOf(event);
  if (uid && list.reacts(uid) && !event.target.matches("input")) openStudy(uid);
});
$("rows").addEventListener("focusin", (event) => {
  const uid = uidOf(event);
  if (uid && uid !== list.current) { list.current = uid; list.draw(); }
});
window.addEventListener("popstate", (event) => {
  const before = query.toString();
  query = new URLSearchParams(location.search);
  const uid = location.pathname.split("/")[2];
  if (uid && uid !== panel.uid) panel.open(uid).catch(dialog.tell);
  if (!uid && panel.isOpen) closePanel({ push: false });
  if (query.toString() !== before) arrive(event.state);
});
window.addEventListener("pagehide", place.now);
window.addEventListener("online", () => refetch());

const inPreview = (key) => panel.isOpen && panel.key(key);
const look = (tab) => needTarget((uid) => (panel.isOpen && panel.uid === uid ? panel.show(tab) : openPanel(uid, tab)));
const named = {
  down: () => step(() => list.step(1)), up: () => step(() => list.step(-1)), next: nextStudy,
  claim: needTarget((uid) => acts.claim(uid, { open: false })), release: needTarget(acts.release),
  why: look("why"), preview: look("preview"), line: look("line"), history: look("history"),
  agree: needTarget((uid) => acts.agree(uid)), disagree: needTarget((uid) => acts.disagree(uid)), missed: needTarget(acts.missed), undo: acts.undo,
  acknowledge: someAlert(acts.acknowledge), handover: someAlert(acts.handover), alerts: () => location.assign("/alerts"),
  keep: () => { const mine = leases.first(); if (mine) acts.keep(mine.uid); },
  freeze: toggleFreeze, apply: applyChanges, hidden: showHidden, help: () => location.assign("/help/keys"), bulk, columns: openView,
  search: () => $("search").text.focus(), order: () => { if (!inPreview("0")) toTrueOrder(); },
  invert: () => inPreview("i"), overlay: () => inPreview("o"),
};
const keys = {
  ArrowDown: named.down, ArrowUp: named.up, "Shift+ArrowDown": () => list.extend(1), "Shift+ArrowUp": () => list.extend(-1),
  Home: () => step(() => list.select(list.shown[0])), End: toEnd, PageDown: () => step(() => list.step(list.page)), PageUp: () => step(() => list.step(-list.page)),
  " ": () => { if (list.current) list.toggle(list.current); },
  Enter: () => { const uid = list.current ?? panel.uid; if (uid && list.reacts(uid)) openStudy(uid); },
  "Ctrl+p": exportList, "Shift+Escape": () => filters.clearAll(),
  Escape() {
    if (document.activeElement.matches("input, select")) document.activeElement.blur();
    else if (panel.isOpen) closePanel();
    else filters.clearLast();
  },
  "[": () => inPreview("["), "]": () => inPreview("]"), ";": () => inPreview(";"), "'": () => inPreview("'"),
  "g q": () => location.assign("/qa"), "g l": () => location.assign("/worklist"), "g a": () => location.assign("/admin/health"),
};
for (const [name, key] of Object.entries(known.keys)) if (named[name]) keys[key] = named[name];
keys[`Shift+${known.keys.down}`] = () => list.extend(1);
keys[`Shift+${known.keys.up}`] = () => list.extend(-1);
[...document.querySelectorAll("[data-tab]")].forEach((link, i) => {
  keys[i + 1] = () => { if (!inPreview(String(i + 1))) link.click(); };
});
bindKeys(keys, { active: () => !dialog.isOpen() && !popped(), single: known.singleKeys });

arrive(history.state);
