// The reading worklist: wires the list, the stream, the panel, the banner and the keys.

import { makeActs } from "./acts.js";
import { act, ask } from "./api.js";
import { makeBanner } from "./banner.js";
import { span } from "./cell.js";
import * as dialog from "./dialog.js";
import { bindKeys } from "./keys.js";
import { somebodyIsHere } from "./idle.js";
import { List } from "./list.js";
import { follow } from "./live.js";
import { Panel } from "./panel.js";
import { watchRest } from "./rest.js";
import { computerIsWrong, heard, hours, minutes, now } from "./time.js";

const BATCH_MS = 2000;
const FIRST = 100;
const REFETCH_MAX = 1000;
const KEEP_EVERY_MS = 60_000;
const ACTIVE_MS = 5 * 60_000;

const $ = (id) => document.getElementById(id);
const data = $("known").dataset;
const known = {
  me: data.me, mayAct: data.mayAct === "True", mayAlert: data.mayAlert === "True",
  chips: JSON.parse(data.chips), missed: JSON.parse(data.missed), colleagues: JSON.parse(data.colleagues), takeOver: JSON.parse(data.takeOver),
};
known.names = Object.fromEntries(known.colleagues);
heard(data.now);

const columns = [...document.querySelectorAll(".rows thead th")].map((th) => th.className.slice(2)).filter((id) => id !== "sel");
const scroller = document.querySelector(".rows");
const list = new List({ scroller, body: $("rows"), table: document.querySelector(".rows table"), columns });
const rest = watchRest(scroller, () => dialog.isOpen() || document.querySelector("details[open]") !== null);
const panel = new Panel($("panel"), { onAct: (name) => onAct(name), onOverlay: (uid) => acts.overlay(uid) });
const age = { stale: false, old: false, offline: false };
const afterAct = () => { refetch(); panel.refresh().catch(dialog.tell); }; // feedback changes no row, but the history
const acts = makeActs({ refresh: afterAct, row: (uid) => list.rows.get(uid), known, stale: () => age.old || age.offline });
const banner = makeBanner($("banner"), $("shout"), {
  mayAct: known.mayAlert, open: (alert) => openStudy(alert.uid), acknowledge: acts.acknowledge, handover: acts.handover, later: acts.later,
  list: () => location.assign("/alerts"),
});

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

/** Ask for the rows from the top; calls that come meanwhile become one more call. */
async function refetch({ replace = false } = {}) {
  if (replace) { etag = ""; asking = null; }
  if (asking) { again = true; return; }
  const mine = (asking = {});
  try {
    const loaded = replace ? FIRST : Math.min(Math.max(list.shown.length, FIRST), REFETCH_MAX);
    const found = await pages(loaded, mine);
    if (asking !== mine || !found) return;
    failed = null;
    if (replace) list.replace(found.rows, found.total);
    else list.take(found.rows, found.total);
    if (replace || found.rows.length >= list.shown.length) next = found.next;
    last = found;
    drawAround();
  } catch (problem) {
    if (problem.status === undefined) throw problem;
    if (asking === mine) { failed = { problem, at: now() }; drawBars(); }
  } finally {
    if (asking === mine) asking = null;
    if (again && !asking) { again = false; setTimeout(refetch, 300); }
  }
}

async function pages(count, mine) {
  let all = null;
  let cursor = "";
  while (!all || (cursor && all.rows.length < count)) {
    const limit = Math.min(500, count - (all?.rows.length ?? 0));
    const single = count <= 500;
    const headers = single && etag ? { "If-None-Match": etag } : {};
    const answer = await ask(url(limit, cursor), { background: !somebodyIsHere(), headers });
    if (asking !== mine) return null;
    live.heard();
    if (answer.status === 304) { failed = null; return null; }
    heard(answer.said.as_of);
    etag = single ? answer.headers.get("ETag") ?? "" : "";
    all = all ? { ...answer.said, rows: [...all.rows, ...answer.said.rows] } : answer.said;
    cursor = answer.said.next;
  }
  return { ...all, next: cursor };
}

let appending = null;
/** The next page below; one at a time. Resolves to whether rows came. */
function more() {
  if (!next || list.coming) return Promise.resolve(false);
  appending ??= ask(url(500, next), { background: true })
    .then(({ said }) => {
      next = said.next;
      appending = null;
      list.append(said.rows, said.total);
      return true;
    })
    .catch(() => { appending = null; return false; }); // the next scroll tries again; a bar tells when the server is away
  return appending;
}
list.onDraw = (lastDrawn) => { if (lastDrawn > list.shown.length - 80) more(); };

async function toEnd() {
  while (await more());
  if (list.shown.length) list.select(list.shown.at(-1));
}

// --- drawing around the list -----------------------------------------------------------------------------------------

function drawAround() {
  for (const link of document.querySelectorAll("[data-tab]")) {
    const count = last.tabs[link.dataset.tab];
    link.querySelector("b").textContent = count > 999 ? "999+" : String(count);
  }
  banner.show(last.banner);
  $("count").textContent = `${last.total} ${last.total === 1 ? "study" : "studies"}`;
  if (!list.shown.length) empty();
  drawBars();
  drawChanges();
  if (panel.isOpen && list.rows.get(panel.uid)?.version !== panelVersion()) panel.refresh().catch(dialog.tell);
}

const panelVersion = () => Number($("panel").querySelector("header")?.dataset.version);

function empty() {
  const tr = document.createElement("tr");
  tr.className = "empty";
  const filters = [...query.keys()].filter((k) => k !== "tab");
  const td = span("td", filters.length ? "No study matches. Clear the filters with Shift+Esc." : "Nothing here at the moment.");
  td.colSpan = columns.length + 1;
  tr.append(td);
  list.body.append(tr);
}

function drawBars() {
  const bars = [];
  if (age.offline) bars.push(["Offline. Nothing can be claimed or acknowledged until the network is back.", "stale"]);
  else if (age.stale) bars.push([`List may be out of date. Last update ${Math.round(age.age / 1000)} s ago. Trying again.`, "stale", ["Now", () => refetch()]]);
  if (failed) bars.push([`The list could not be loaded: ${failed.problem.message}${failed.problem.reference ? ` (reference ${failed.problem.reference})` : ""} The last good list is shown.`, "stale", ["Try again", () => refetch()]]);
  for (const d of degraded) bars.push([`${d.part}: ${d.text}. Order: ordered priority, waiting time and what was analysed before.`, "stale"]);
  if (last?.hidden_critical) {
    const n = last.hidden_critical;
    bars.push([`${n} critical ${n === 1 ? "study is" : "studies are"} outside this filter.`, "", ["Show (V)", showHidden]]);
  }
  if (computerIsWrong()) bars.push(["The clock of this computer is wrong by more than a minute; times here are the server's.", "stale"]);
  const key = JSON.stringify(bars.map((b) => b.slice(0, 2)));
  if ($("bars").dataset.key === key) return;
  $("bars").dataset.key = key;
  $("bars").replaceChildren(...bars.map(([text, kind, button]) => {
    const bar = span("div", "", `bar ${kind}`);
    bar.setAttribute("role", "status");
    bar.append(span("span", text, "grow"));
    if (button) {
      const made = span("button", button[0]);
      made.addEventListener("click", button[1]);
      bar.append(made);
    }
    return bar;
  }));
}

function drawChanges() {
  const { count, critical } = list.waiting();
  const button = $("changes");
  button.hidden = count === 0;
  button.textContent = `${count} ${count === 1 ? "change" : "changes"}${critical ? `, ${critical} critical` : ""}: U applies`;
  $("order").textContent = rest.frozen ? "order: frozen (F)" : "order: reading order (true)";
  $("freeze").setAttribute("aria-pressed", String(rest.frozen));
}

function applyChanges() {
  const { fresh, critical } = list.waiting();
  list.apply();
  if (fresh) $("said").textContent = `${fresh} new${critical ? `, ${critical} critical` : ""}`;
  if (!list.shown.length) empty();
  drawChanges();
}

// --- live --------------------------------------------------------------------------------------------------------------

let degraded = [];
let soon = null;
const live = follow({
  onChange(kind) {
    if (kind === "poll") { refetch(); return; }
    // Spread a little, so that fifty pages do not ask in the same instant; an alert waits for nothing.
    if (kind === "alert") { clearTimeout(soon); soon = null; refetch(); }
    else soon ??= setTimeout(() => { soon = null; refetch(); }, 150 + Math.random() * 350);
  },
  onHealth(said) { heard(said.as_of); degraded = said.degraded; drawBars(); drawLight(); },
  onAge(is) {
    Object.assign(age, is);
    scroller.classList.toggle("old", age.old || age.offline);
    drawLight();
    drawBars();
  },
});

function drawLight() {
  const state = age.offline ? "offline" : age.stale ? "stale" : "live";
  const words = { offline: "offline", stale: "not live", live: degraded.length ? "live, degraded" : "live" }[state];
  if ($("light").dataset.state === state && $("light").textContent === words) return;
  $("light").dataset.state = state;
  $("light").firstElementChild.textContent = words;
}

const clock = new Intl.DateTimeFormat("sv-SE", { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" });
setInterval(() => {
  list.tick();
  banner.tick();
  $("clock").textContent = clock.format(now());
  $("oldest").textContent = last?.oldest ? `oldest ${hours(now() - last.oldest)}` : "";
  leases();
}, 1000);
setInterval(() => {
  if (list.coming && rest.atRest && performance.now() - list.appliedAt > BATCH_MS) applyChanges();
  else drawChanges();
}, 200);

/** Renew what I read while I am at it; ask two minutes before the end (ux 5.6). */
const warned = new Map();
let keptAt = 0;
function leases() {
  for (const row of list.rows.values()) {
    if (!row.mine) continue;
    const left = row.until - now();
    if (row.uid === panel.uid && Date.now() - keptAt > KEEP_EVERY_MS && left < 9 * 60_000 && left > 0 && performance.now() - activeAt < ACTIVE_MS) {
      keptAt = Date.now();
      act(`/api/v1/studies/${row.uid}/keep`).catch(() => {});
    }
    if (left < 120_000 && left > 0 && warned.get(row.uid) !== row.until) {
      warned.set(row.uid, row.until);
      dialog.toast(`Your claim on ${row.name} ends in ${minutes(left)}.`, { ms: 60_000, action: { words: "Keep (Y)", run: () => acts.keep(row.uid) } });
    }
  }
}
let activeAt = performance.now();
for (const kind of ["keydown", "pointerdown"]) document.addEventListener(kind, () => { activeAt = performance.now(); });

// --- what a reader does ---------------------------------------------------------------------------------------------------

// One study is meant at a time: where the focus is in the list its row, and the panel follows that row.
const target = () => ($("rows").contains(document.activeElement) ? list.current : null) ?? panel.uid ?? list.current;
let following = 0;
function step(move) {
  move();
  clearTimeout(following);
  if (panel.isOpen) following = setTimeout(() => { if (panel.isOpen && list.current !== panel.uid) openPanel(list.current); }, 200);
}
const needTarget = (run) => () => { const uid = target(); if (uid) run(uid); else dialog.toast("Choose a study first (J, K)."); };

async function openPanel(uid, tab) {
  try {
    await panel.open(uid, tab);
    const path = `/worklist/${uid}`;
    if (location.pathname !== path) history.pushState({ uid }, "", `${path}${search()}`);
    if (list.rows.has(uid)) list.select(uid, { focus: false });
    list.draw();
  } catch (problem) {
    if (problem.status === undefined) throw problem;
    dialog.tell(problem);
  }
}
function closePanel({ push = true } = {}) {
  const uid = panel.uid;
  panel.close();
  if (push) history.pushState({}, "", `/worklist${search()}`);
  list.draw();
  if (uid && list.rows.has(uid)) list.select(uid);
}
const search = () => (query.toString() ? `?${query}` : "");

async function openStudy(uid) {
  if (!known.mayAct) { await openPanel(uid); return; }
  const claimed = await acts.claim(uid, { open: true });
  if (claimed) await openPanel(uid);
}

async function nextStudy() {
  const item = await acts.next();
  if (!item) return;
  await refetch();
  await openPanel(item.study_uid);
}

function alertOf(uid) {
  const id = list.rows.get(uid)?.alert;
  return (last?.banner ?? []).find((a) => a.uid === uid && (!id || a.id === id));
}
const someAlert = (run) => () => {
  const alert = (target() && alertOf(target())) ?? banner.first;
  if (alert) run(alert);
  else dialog.toast("No open alert here.");
};

function onAct(name) {
  const uid = panel.uid;
  const table = {
    close: () => closePanel(), claim: () => acts.claim(uid, { open: true }), release: () => acts.release(uid), raise: () => acts.raise(uid),
    report: () => acts.report(uid), agree: () => acts.agree(uid), disagree: () => acts.disagree(uid), missed: () => acts.missed(uid),
    acknowledge: someAlert(acts.acknowledge), handover: someAlert(acts.handover),
  };
  table[name]?.();
}

/** Another tab or filter: the URL says it, Back undoes it. */
function go(changes) {
  for (const [name, value] of Object.entries(changes)) if (value) query.set(name, value); else query.delete(name);
  history.pushState({}, "", `${panel.uid ? `/worklist/${panel.uid}` : "/worklist"}${search()}`);
  arrive();
}
function arrive() {
  const tab = query.get("tab") ?? "to_read";
  for (const link of document.querySelectorAll("[data-tab]")) {
    if (link.dataset.tab === tab) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  for (const field of document.querySelectorAll("[data-filter]")) field.value = query.get(field.dataset.filter) ?? "";
  scroller.scrollTop = 0;
  refetch({ replace: true });
}
const clearAll = () => { $("search").text.value = ""; go({ modality: "", location: "", site: "", priority_class: "", search: "" }); };
const showHidden = () => { $("search").text.value = ""; go({ tab: "", modality: "", location: "", site: "", search: "", priority_class: "critical" }); };

let typing = 0;
async function lookFor(text) {
  if (text.length > 0 && text.length < 3) return;
  if (!text) { go({ search: "" }); return; }
  try {
    const { said } = await act("/api/v1/worklist/searches", { text });
    go({ search: said.search });
  } catch (problem) { dialog.tell(problem); }
}
$("search").text.addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => lookFor(event.target.value.trim()), 300);
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  lookFor($("search").text.value.trim());
});

async function exportList() {
  const chosen = list.selected.size;
  const answer = await dialog.choose({
    title: "Export: contains patient data", text: chosen ? `${chosen} selected rows.` : `All ${list.total} rows of this view. It is noted in the audit trail.`,
    choices: [["csv", "CSV file"], ["print", "table to print"]],
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
  $("said").textContent = rest.frozen ? "Order frozen for up to ten minutes" : "Order live again";
  drawChanges();
}

$("changes").addEventListener("click", applyChanges);
$("freeze").addEventListener("click", toggleFreeze);
$("export").addEventListener("click", exportList);
for (const link of document.querySelectorAll("[data-tab]")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ tab: link.dataset.tab === "to_read" ? "" : link.dataset.tab });
  });
}
for (const field of document.querySelectorAll("[data-filter]")) field.addEventListener("change", () => go({ [field.dataset.filter]: field.value }));
$("rows").addEventListener("click", (event) => {
  const uid = event.target.closest("tr[data-uid]")?.dataset.uid;
  if (!uid || !list.reacts(uid)) { if (uid) event.preventDefault(); return; }
  if (event.target.matches("input")) { list.toggle(uid); return; }
  list.select(uid);
  if (panel.isOpen) openPanel(uid);
});
$("rows").addEventListener("dblclick", (event) => {
  const uid = event.target.closest("tr[data-uid]")?.dataset.uid;
  if (uid && list.reacts(uid) && !event.target.matches("input")) openStudy(uid);
});
$("rows").addEventListener("focusin", (event) => {
  const uid = event.target.closest("tr[data-uid]")?.dataset.uid;
  if (uid && uid !== list.current) { list.current = uid; list.draw(); }
});
window.addEventListener("popstate", () => {
  query = new URLSearchParams(location.search);
  const uid = location.pathname.split("/")[2];
  if (uid && uid !== panel.uid) panel.open(uid).catch(dialog.tell);
  if (!uid && panel.isOpen) closePanel({ push: false });
  arrive();
});
window.addEventListener("online", () => refetch());

const inPreview = (key) => panel.isOpen && panel.key(key);
const look = (tab) => needTarget((uid) => (panel.isOpen && panel.uid === uid ? panel.show(tab) : openPanel(uid, tab)));
const tabs = [...document.querySelectorAll("[data-tab]")].map((l) => l.dataset.tab);
const keys = {
  j: () => step(() => list.step(1)), ArrowDown: () => step(() => list.step(1)), k: () => step(() => list.step(-1)), ArrowUp: () => step(() => list.step(-1)),
  Home: () => step(() => list.select(list.shown[0])), End: toEnd, PageDown: () => step(() => list.step(list.page)), PageUp: () => step(() => list.step(-list.page)),
  " ": () => { if (list.current) list.toggle(list.current); },
  Enter: () => { const uid = list.current ?? panel.uid; if (uid && list.reacts(uid)) openStudy(uid); },
  n: nextStudy, c: needTarget((uid) => acts.claim(uid, { open: false })), r: needTarget(acts.release),
  w: look("why"), p: look("preview"), t: look("line"), h: look("history"),
  a: needTarget(acts.agree), d: needTarget(acts.disagree), m: needTarget(acts.missed), z: acts.undo,
  x: someAlert(acts.acknowledge), e: someAlert(acts.handover), l: () => location.assign("/alerts"),
  y: () => { const mine = [...list.rows.values()].filter((r) => r.mine).sort((a, b) => a.until - b.until)[0]; if (mine) acts.keep(mine.uid); },
  f: toggleFreeze, u: applyChanges, v: showHidden, "?": () => location.assign("/help/keys"),
  "/": () => $("search").text.focus(), "Ctrl+p": exportList,
  Escape() {
    if (document.activeElement === $("search").text) $("search").text.blur();
    else if (panel.isOpen) closePanel();
    else if (query.get("search")) { $("search").text.value = ""; go({ search: "" }); }
  },
  "Shift+Escape": clearAll,
  0: () => { if (!inPreview("0")) { rest.freeze(false); applyChanges(); if (list.shown.length) list.select(list.shown[0]); } },
  i: () => inPreview("i"), o: () => inPreview("o"), "[": () => inPreview("["), "]": () => inPreview("]"), ";": () => inPreview(";"), "'": () => inPreview("'"),
  "g q": () => location.assign("/qa"), "g l": () => location.assign("/worklist"), "g a": () => location.assign("/admin/health"),
};
tabs.forEach((tab, i) => { keys[i + 1] = () => { if (!inPreview(String(i + 1))) go({ tab: tab === "to_read" ? "" : tab }); }; });
bindKeys(keys, { active: () => !dialog.isOpen() });

refetch({ replace: true });
