// Rows and cells as the server says them (web/present.py), by textContent alone.

import { tick } from "./time.js";
import { t } from "./words.js";

export function span(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Fill a cell from {g, w, t, e, m, c, h, k, at}; templates/cell.html draws the same. */
export function fill(td, id, said) {
  td.className = `c-${id}${said.c ? ` t-${said.c}` : ""}`;
  td.title = said.h ?? "";
  delete td.dataset.k;
  td.replaceChildren();
  if (said.g) {
    const glyph = span("span", said.g, "g");
    glyph.setAttribute("aria-hidden", "true");
    td.append(glyph, " ");
  }
  if (said.w) td.append(span("b", said.w), " ");
  if (said.k) {
    td.dataset.k = said.k;
    td.dataset.at = said.at;
    td.append(span("span", said.t ?? "", "time"));
    tick(td);
  } else if (said.t) td.append(span("span", said.t, said.e ? "head" : ""));
  if (said.e) td.append(span("span", said.e));
  if (said.m) td.append(span("span", said.m, "more"));
}

/** A table row; `columns` are the ids after the checkbox. */
export function makeRow(row, columns) {
  const tr = document.createElement("tr");
  tr.dataset.uid = row.uid;
  tr.tabIndex = -1;
  const first = document.createElement("td");
  first.className = "c-sel";
  const box = document.createElement("input");
  box.type = "checkbox";
  box.tabIndex = -1;
  first.append(box);
  tr.append(first);
  for (const id of columns) {
    const td = document.createElement("td");
    fill(td, id, row.cells[id] ?? {});
    tr.append(td);
  }
  mark(tr, row);
  return tr;
}

/** What of a row is no cell: class, whose it is, its name for those who listen. */
export function mark(tr, row) {
  tr.dataset.class = row.class;
  tr.toggleAttribute("data-mine", row.mine);
  tr.querySelector("input").setAttribute("aria-label", t("select %(name)s, %(study)s", { name: row.name, study: row.cells.desc?.t ?? "" }));
}

/** Change cells in place; a changed one is underlined for a second. */
export function update(tr, before, after, columns) {
  columns.forEach((id, i) => {
    const was = before.cells[id] ?? {};
    const is = after.cells[id] ?? {};
    if (JSON.stringify(was) === JSON.stringify(is)) return;
    const td = tr.cells[i + 1];
    fill(td, id, is);
    if (was.k && was.k === is.k && was.w === is.w) return; // the same clock, counting on
    td.classList.add("changed");
    setTimeout(() => td.classList.remove("changed"), 1000);
  });
  mark(tr, after);
}
