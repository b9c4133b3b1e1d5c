// What stands around the rows: counts of the tabs, bars that tell what is wrong, the light, the status line.

import { span } from "./cell.js";
import { keyed } from "./keys.js";
import { computerIsWrong, hours, now as serverNow } from "./time.js";
import { t, tn } from "./words.js";

const $ = (id) => document.getElementById(id);

/** `now()`: {last, failed, degraded} as of the newest answer; `keys`: {act: key} to name. */
export function makeAround({ list, banner, rest, age, now, keys, refetch, showHidden }) {
  let filtered = false;
  let sorted = "";
  let sortedBy = "";

  function draw(narrowed) {
    const { last } = now();
    filtered = narrowed;
    for (const link of document.querySelectorAll("[data-tab]")) {
      const count = last.tabs[link.dataset.tab];
      link.querySelector("b").textContent = count > 999 ? "999+" : String(count);
    }
    banner.show(last.banner);
    sorted = [last.order, sortedBy && keys.order ? t("Press %(key)s to return.", { key: keys.order }) : ""].filter(Boolean).join(" ");
    $("count").textContent = tn("%(n)s study", "%(n)s studies", last.total);
    $("figures").textContent = last.figures;
    $("clear").hidden = !filtered;
    if (!list.shown.length) empty();
    bars();
    changes();
  }

  function empty() {
    if (list.body.querySelector(".empty")) return;
    const tr = document.createElement("tr");
    tr.className = "empty";
    const td = span("td", now().last?.empty || t("Nothing here at the moment."));
    td.colSpan = list.columns.length + 1;
    tr.append(td);
    list.body.append(tr);
  }

  function bars() {
    const { last, failed } = now();
    const said = [];
    if (age.offline) said.push([t("Offline. Nothing can be claimed or acknowledged until the network is back."), "stale"]);
    else if (age.stale) said.push([t("List may be out of date. Last update %(n)s s ago. Trying again.", { n: Math.round(age.age / 1000) }), "stale", [t("Now"), refetch]]);
    if (failed) {
      const reference = failed.reference ? ` ${t("(reference %(number)s)", { number: failed.reference })}` : "";
      said.push([`${t("The list could not be loaded: %(why)s", { why: failed.message })}${reference} ${t("The last good list is shown.")}`, "stale", [t("Try again"), refetch]]);
    }
    for (const bar of last?.bars ?? []) said.push([bar.text, bar.kind]);
    for (const text of last?.withdrawn ?? []) said.push([text, ""]);
    const n = last?.hidden_critical ?? 0;
    if (n) said.push([tn("%(n)s critical study is outside this filter.", "%(n)s critical studies are outside this filter.", n), "", [keyed(t("Show"), keys.hidden), showHidden]]);
    if (computerIsWrong()) said.push([t("The clock of this computer is wrong by more than a minute; times here are the server's."), "stale"]);
    const key = JSON.stringify(said.map((b) => b.slice(0, 2)));
    if ($("bars").dataset.key === key) return;
    $("bars").dataset.key = key;
    $("bars").replaceChildren(...said.map(one));
  }

  function one([text, kind, button]) {
    const bar = span("div", "", `bar ${kind}`);
    bar.setAttribute("role", kind === "bad" ? "alert" : "status");
    bar.append(span("span", text, "grow"));
    if (button) {
      const made = span("button", button[0]);
      made.addEventListener("click", button[1]);
      bar.append(made);
    }
    return bar;
  }

  function changes() {
    const { count, critical } = list.waiting();
    const button = $("changes");
    button.hidden = count === 0;
    const words = tn("%(n)s change", "%(n)s changes", count);
    button.textContent = keyed(critical ? t("%(changes)s, %(n)s critical: apply", { changes: words, n: critical }) : t("%(changes)s: apply", { changes: words }), keys.apply);
    $("order").textContent = rest.frozen ? keyed(t("order: frozen"), keys.freeze) : sorted || t("order: reading order (true)");
    $("order").classList.toggle("t-high", rest.frozen || Boolean(sorted));
    $("freeze").setAttribute("aria-pressed", String(rest.frozen));
  }

  function applied(fresh, critical) {
    if (fresh) $("said").textContent = critical ? t("%(n)s new, %(critical)s critical", { n: fresh, critical }) : t("%(n)s new", { n: fresh });
    if (!list.shown.length) empty();
    changes();
  }

  function light() {
    const state = age.offline ? "offline" : age.stale ? "stale" : "live";
    const degraded = now().degraded && now().degraded !== "[]";
    const words = { offline: t("offline"), stale: t("not live"), live: degraded ? t("live, degraded") : t("live") }[state];
    if ($("light").dataset.state === state && $("light").textContent === words) return;
    $("light").dataset.state = state;
    $("light").firstElementChild.textContent = words;
  }

  /** The URL in the controls that are links and headers. */
  function here(query) {
    const tab = query.get("tab") ?? "to_read";
    sortedBy = query.get("sort");
    document.querySelector(".work").dataset.view = tab;
    for (const link of document.querySelectorAll("[data-tab]")) {
      if (link.dataset.tab === tab) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    for (const button of document.querySelectorAll("[data-sort]")) {
      const on = query.get("sort") === button.dataset.sort;
      button.closest("th").setAttribute("aria-sort", on ? (query.get("descending") ? "descending" : "ascending") : "none");
    }
  }

  function tick(clock) {
    const { last } = now();
    $("clock").textContent = clock.format(serverNow());
    $("oldest").textContent = last?.oldest ? t("first received %(time)s ago", { time: hours(serverNow() - last.oldest) }) : "";
  }

  function selected(n) {
    $("bulk").hidden = n === 0;
    $("bulk").textContent = keyed(tn("%(n)s selected: act", "%(n)s selected: act", n), keys.bulk);
  }

  return { draw, bars, changes, applied, light, here, tick, selected };
}
