// The row of filters under the headers. What can name a patient goes to the server under a key; the rest into the URL.

import { act } from "./api.js";
import { span } from "./cell.js";
import { tell } from "./dialog.js";
import { t } from "./words.js";

const TYPING_MS = 300;
const TEXT_MIN = 3;

/** `page`: {get(name), go(changes)}; `box` is the search field of the top bar. */
export function makeFilters({ head, box, pick, page }) {
  const naming = [...head.querySelectorAll("[data-naming]")];
  const plain = [...head.querySelectorAll("[data-filter]")];
  const picks = [...head.querySelectorAll("[data-pick]")];
  const names = [...plain.map((f) => f.dataset.filter), ...picks.map((p) => p.dataset.pick), "search"];
  let typing = 0;
  let texts = {};

  /** Search texts under one opaque key of this person (ux 5.5). */
  async function look() {
    clearTimeout(typing);
    const columns = Object.fromEntries(naming.map((f) => [f.dataset.naming, f.value.trim()]).filter(([, v]) => v));
    const text = box.value.trim();
    if (!text && !Object.keys(columns).length) { page.go({ search: "" }); return; }
    try {
      page.go({ search: (await act("/api/v1/worklist/searches", { text, columns })).said.search });
    } catch (problem) { tell(problem); }
  }

  function typed(field, run) {
    field.addEventListener("input", () => {
      clearTimeout(typing);
      const length = field.value.trim().length;
      if (length === 0 || length >= TEXT_MIN) typing = setTimeout(run, TYPING_MS);
    });
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); clearTimeout(typing); run(); } });
  }
  for (const field of [box, ...naming]) typed(field, look);
  for (const field of plain) {
    const run = () => page.go({ [field.dataset.filter]: field.value.trim() });
    if (field.matches("select")) field.addEventListener("change", run);
    else typed(field, run);
  }
  for (const button of picks) button.addEventListener("click", () => open(button));

  function open(button) {
    const name = button.dataset.pick;
    const chosen = new Set((page.get(name) ?? "").split(",").filter(Boolean));
    const form = document.createElement("form");
    for (const [value, words] of JSON.parse(button.dataset.choices)) {
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "checkbox", value, checked: chosen.has(value) });
      label.append(input, ` ${words}`);
      form.append(label);
    }
    form.addEventListener("change", (event) => {
      const one = name === "reader"; // one reader at a time: the server asks for one
      if (one && event.target.checked) for (const other of form.elements) other.checked = other === event.target;
      page.go({ [name]: [...form.elements].filter((i) => i.checked).map((i) => i.value).join(",") });
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    pick.setAttribute("aria-label", button.getAttribute("aria-label"));
    pick.replaceChildren(form.elements.length ? form : span("p", t("Nothing to choose from."), "muted"));
    pick.showPopover();
    const at = button.getBoundingClientRect();
    pick.style.left = `${Math.min(at.left, innerWidth - pick.offsetWidth - 8)}px`;
    pick.style.top = `${at.bottom + 4}px`;
    form.elements[0]?.focus();
    pick.addEventListener("toggle", (event) => { if (event.newState === "closed") button.focus(); }, { once: true });
  }

  return {
    look,
    get active() { return names.filter((name) => page.get(name)); },
    /** Controls as the URL says; texts as the server keeps them. */
    draw(kept) {
      if (kept) texts = kept;
      for (const field of [box, ...naming]) if (field !== document.activeElement) field.value = texts[field.dataset.naming ?? ""] ?? "";
      for (const field of plain) {
        if (field !== document.activeElement) field.value = page.get(field.dataset.filter) ?? "";
        field.toggleAttribute("data-on", Boolean(field.value));
      }
      for (const field of naming) field.toggleAttribute("data-on", Boolean(field.value));
      for (const button of picks) {
        const chosen = (page.get(button.dataset.pick) ?? "").split(",").filter(Boolean);
        const words = new Map(JSON.parse(button.dataset.choices));
        button.textContent = chosen.length ? chosen.map((v) => words.get(v) ?? v).join(", ") : t("all");
        button.toggleAttribute("data-on", chosen.length > 0);
      }
    },
    clearLast() {
      const last = this.active.at(-1);
      if (last) page.go({ [last]: "" });
    },
    clearAll(more = {}) { page.go({ ...Object.fromEntries(names.map((n) => [n, ""])), ...more }); },
  };
}
