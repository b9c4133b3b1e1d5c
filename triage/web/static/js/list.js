// The list: a window of rows over thousands. Cells change at once; places only when they are applied (ux 6).
//
// `shown` is the order on the screen, `coming` the true order as the server last said it. They differ until `apply`.

import { makeRow, update } from "./cell.js";
import { tick } from "./time.js";
import { t } from "./words.js";

const WINDOW = 60; // rows in the document (ux 13)
const GUARD_MS = 300; // after a batch a moved row does not react: nobody opens the wrong patient

export class List {
  constructor({ scroller, body, table, columns, now = () => performance.now() }) {
    Object.assign(this, { scroller, body, table, columns, now });
    this.rows = new Map(); // uid -> row as the server says it
    this.shown = [];
    this.coming = null;
    this.total = 0;
    this.nodes = new Map(); // uid -> tr in the document
    this.selected = new Set();
    this.current = null;
    this.moved = new Set();
    this.appliedAt = -Infinity;
    this.top = this.spacer();
    this.bottom = this.spacer();
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(scroller);
  }

  spacer() {
    const tr = document.createElement("tr");
    tr.className = "spacer";
    tr.setAttribute("aria-hidden", "true");
    tr.append(document.createElement("td")); // one cell: a wide one would make columns where some are hidden
    return tr;
  }

  get rowHeight() {
    const size = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const rem = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row-height"));
    return size * rem;
  }

  /** The first answer, or another tab or filter: take all of it as it is. */
  replace(rows, total) {
    this.rows = new Map(rows.map((r) => [r.uid, r]));
    this.shown = rows.map((r) => r.uid);
    this.coming = null;
    this.total = total;
    this.selected.clear();
    if (this.current && !this.rows.has(this.current)) this.current = null;
    this.nodes.clear();
    this.body.replaceChildren();
    this.table.dataset.loaded = ""; // from here on the rows are ours; before, the server's stand
    this.draw();
  }

  /** One more page below: moves nothing. */
  append(rows, total) {
    for (const row of rows) if (!this.rows.has(row.uid)) { this.rows.set(row.uid, row); this.shown.push(row.uid); }
    this.total = total;
    this.draw();
  }

  /** The newest answer for the rows from the top: cells now, places later. */
  take(rows, total) {
    const order = rows.map((r) => r.uid);
    const known = new Set(order);
    const tail = this.shown.slice(order.length).filter((uid) => !known.has(uid));
    for (const row of rows) {
      const before = this.rows.get(row.uid);
      this.rows.set(row.uid, row);
      const tr = this.nodes.get(row.uid);
      if (before && tr) update(tr, before, row, this.columns);
    }
    this.total = total;
    const complete = order.length >= total ? order : [...order, ...tail];
    const same = complete.length === this.shown.length && complete.every((uid, i) => uid === this.shown[i]);
    this.coming = same ? null : complete;
    const stay = new Set(complete);
    for (const [uid, tr] of this.nodes) this.leave(uid, tr, !stay.has(uid));
    this.draw();
  }

  /** A row that leaves stays where it is, muted and with the word, until places change. */
  leave(uid, tr, leaves) {
    if (tr.classList.contains("leaving") === leaves) return;
    tr.classList.toggle("leaving", leaves);
    const place = tr.querySelector(".c-pos");
    if (place) place.textContent = leaves ? t("leaving") : this.rows.get(uid).cells.pos.t;
  }

  /** {count, fresh, critical}: what waits to be applied. */
  waiting() {
    if (!this.coming) return { count: 0, fresh: 0, critical: 0 };
    const before = new Map(this.shown.map((uid, i) => [uid, i]));
    const fresh = this.coming.filter((uid) => !before.has(uid));
    const stayed = this.shown.filter((uid) => this.coming.includes(uid));
    const still = this.coming.filter((uid) => before.has(uid));
    const moved = still.filter((uid, i) => uid !== stayed[i]).length;
    const gone = this.shown.length - stayed.length;
    const critical = fresh.filter((uid) => this.rows.get(uid).class === "critical").length;
    return { count: fresh.length + moved + gone, fresh: fresh.length, critical };
  }

  /** Change places, keeping the anchor (focused row, else first whole row) at its pixel. */
  apply() {
    if (!this.coming) return;
    const anchor = this.anchor();
    const offset = anchor === null ? 0 : this.shown.indexOf(anchor) * this.rowHeight - this.scroller.scrollTop;
    const before = new Map(this.shown.map((uid, i) => [uid, i]));
    const focused = document.activeElement?.closest?.("tr[data-uid]")?.dataset.uid;
    this.shown = this.coming;
    this.coming = null;
    this.moved = new Set(this.shown.filter((uid, i) => before.get(uid) !== i));
    this.appliedAt = this.now();
    const known = new Set(this.shown);
    for (const uid of [...this.rows.keys()]) if (!known.has(uid)) this.rows.delete(uid);
    this.draw();
    const at = anchor === null ? -1 : this.shown.indexOf(anchor);
    if (at >= 0) this.scroller.scrollTop = at * this.rowHeight - offset;
    this.draw();
    if (focused && this.nodes.has(focused)) this.nodes.get(focused).focus({ preventScroll: true });
  }

  anchor() {
    const top = this.scroller.scrollTop;
    if (this.current && this.coming.includes(this.current)) {
      const y = this.shown.indexOf(this.current) * this.rowHeight;
      if (y >= top - this.rowHeight && y < top + this.scroller.clientHeight) return this.current;
    }
    const first = Math.ceil(top / this.rowHeight - 0.01);
    return this.shown.slice(first).find((uid) => this.coming.includes(uid)) ?? null;
  }

  /** May this row react? Just after a batch a row that moved only flashes. */
  reacts(uid) {
    if (this.now() - this.appliedAt > GUARD_MS || !this.moved.has(uid)) return true;
    const tr = this.nodes.get(uid);
    tr?.classList.add("flash");
    setTimeout(() => tr?.classList.remove("flash"), 400);
    return false;
  }

  draw() {
    if (this.table.dataset.loaded === undefined) return;
    this.table.setAttribute("aria-rowcount", String(this.total + 2));
    const height = this.rowHeight;
    const first = Math.max(0, Math.min(Math.floor(this.scroller.scrollTop / height) - 12, this.shown.length - WINDOW));
    const wanted = this.shown.slice(first, first + WINDOW);
    const keep = new Set(wanted);
    for (const [uid, tr] of this.nodes) if (!keep.has(uid)) { if (tr.contains(document.activeElement)) this.scroller.focus?.(); tr.remove(); this.nodes.delete(uid); }
    if (this.top.parentNode !== this.body) { this.body.prepend(this.top); this.body.append(this.bottom); }
    let place = this.top;
    wanted.forEach((uid, i) => {
      let tr = this.nodes.get(uid);
      if (!tr) {
        tr = makeRow(this.rows.get(uid), this.columns);
        this.nodes.set(uid, tr);
      }
      if (place.nextSibling !== tr) place.after(tr);
      place = tr;
      tr.setAttribute("aria-rowindex", String(first + i + 3));
      tr.tabIndex = uid === (this.current ?? this.shown[0]) ? 0 : -1;
      if (uid === this.current) tr.setAttribute("aria-current", "true");
      else tr.removeAttribute("aria-current");
      tr.querySelector("input").checked = this.selected.has(uid);
    });
    this.top.firstChild.style.height = `${first * height}px`;
    this.onSelect?.(this.selected);
    const below = Math.max(this.total, this.shown.length) - first - wanted.length;
    this.bottom.firstChild.style.height = `${Math.max(0, below) * height}px`;
    this.onDraw?.(first + wanted.length);
  }

  /** Make a row the current one, and bring it into view when asked. */
  select(uid, { focus = true } = {}) {
    if (!this.rows.has(uid)) return;
    this.current = uid;
    const y = this.shown.indexOf(uid) * this.rowHeight;
    const head = this.table.tHead.offsetHeight;
    const room = this.scroller.clientHeight - head;
    if (y < this.scroller.scrollTop) this.scroller.scrollTop = y;
    if (y + this.rowHeight > this.scroller.scrollTop + room) this.scroller.scrollTop = y + this.rowHeight - room;
    this.draw();
    if (focus) this.nodes.get(uid)?.focus({ preventScroll: true });
  }

  step(by) {
    const at = this.current ? this.shown.indexOf(this.current) : -1;
    const to = Math.max(0, Math.min(this.shown.length - 1, at + by));
    if (this.shown.length) this.select(this.shown[to]);
  }

  /** Shift+J/K: the rows that the step crosses are selected. */
  extend(by) {
    if (this.current) this.selected.add(this.current);
    this.step(by);
    if (this.current) this.selected.add(this.current);
    this.draw();
  }

  toggle(uid) {
    if (this.selected.has(uid)) this.selected.delete(uid);
    else this.selected.add(uid);
    this.draw();
  }

  get page() {
    return Math.max(1, Math.floor((this.scroller.clientHeight - this.table.tHead.offsetHeight) / this.rowHeight) - 1);
  }

  tick() {
    for (const tr of this.nodes.values()) for (const td of tr.querySelectorAll("td[data-k]")) tick(td);
  }
}
