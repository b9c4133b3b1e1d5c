// Columns, widths, density, and saved views: one dialog, kept on the server for this person (ux 5.2, 5.5).

import { ask } from "./api.js";
import { span } from "./cell.js";
import { choose, tell, toast } from "./dialog.js";
import { t } from "./words.js";

const put = (path, body) => ask(path, { method: "PUT", body });

/** `page`: {known, columns, filters() -> {name: value}}. Reloads the page when its columns changed. */
export async function openViews(page) {
  let views = [];
  try { ({ said: { views } } = await ask("/api/v1/views")); } catch (problem) { tell(problem); return; }
  const box = document.createElement("div");
  box.className = "view-form";
  box.append(saved(views), columnsOf(page), densityOf(page), saving(page, views));
  const sure = await choose({ title: t("View"), more: box, confirm: t("Apply") });
  if (!sure) return;
  const columns = [...box.querySelectorAll("[data-column]")].filter((i) => i.checked).map((i) => i.dataset.column);
  const widths = Object.fromEntries([...box.querySelectorAll("[data-wide]")].filter((i) => i.value).map((i) => [i.dataset.wide, Number(i.value)]));
  try {
    await put("/api/v1/preferences", { columns, widths, density: box.querySelector("[name=density]").value });
    location.reload();
  } catch (problem) { tell(problem); }
}

function saved(views) {
  const list = span("div", "", "saved");
  list.append(span("h3", t("Saved views")));
  for (const view of views) {
    const line = document.createElement("p");
    const link = span("a", view.name);
    link.href = view.path;
    link.addEventListener("click", async (event) => {
      event.preventDefault();
      const wanted = { ...(view.columns.length ? { columns: view.columns } : {}), ...(view.density ? { density: view.density } : {}) };
      if (Object.keys(wanted).length) await put("/api/v1/preferences", wanted).catch(tell);
      location.assign(view.path);
    });
    line.append(link, " ", span("span", view.default_for ? t("default for %(role)s", { role: t(view.default_for) }) : view.shared ? t("shared by %(who)s", { who: view.owner }) : "", "muted"));
    if (view.mine) {
      const gone = span("button", t("Remove"));
      gone.type = "button";
      gone.addEventListener("click", async () => {
        try { await ask(`/api/v1/views/${encodeURIComponent(view.name)}`, { method: "DELETE", body: {} }); line.remove(); } catch (problem) { tell(problem); }
      });
      line.append(" ", gone);
    }
    list.append(line);
  }
  if (!views.length) list.append(span("p", t("None yet."), "muted"));
  return list;
}

function columnsOf({ known, columns }) {
  const box = document.createElement("fieldset");
  box.append(span("legend", t("Columns and their widths (px)")));
  for (const [id, words, fixed] of known.columns) {
    const line = span("div", "", "column");
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "checkbox", checked: fixed || columns.has(id), disabled: fixed });
    input.dataset.column = id;
    label.append(input, ` ${words}`);
    const wide = document.createElement("input");
    Object.assign(wide, { type: "number", min: 24, max: 600, value: columns.get(id) ?? "" });
    wide.dataset.wide = id;
    wide.setAttribute("aria-label", t("Width of %(column)s", { column: words }));
    line.append(label, wide);
    box.append(line);
  }
  return box;
}

function densityOf({ known }) {
  const label = span("label", t("Rows"));
  const select = document.createElement("select");
  select.name = "density";
  for (const [value, words] of [["compact", t("compact")], ["comfortable", t("comfortable")]]) select.add(new Option(words, value, false, value === known.density));
  label.append(select);
  return label;
}

function saving({ known, columns, filters }, views) {
  const box = document.createElement("fieldset");
  box.append(span("legend", t("Save what is shown now")));
  const label = span("label", t("Name"));
  const name = document.createElement("input");
  name.maxLength = 60;
  label.append(name);
  box.append(label, span("p", t("Texts that can name a patient are not saved."), "muted"));
  let shared = null;
  let role = null;
  if (known.mayShare) {
    const line = document.createElement("label");
    shared = Object.assign(document.createElement("input"), { type: "checkbox" });
    line.append(shared, ` ${t("shared with all")}`);
    const forRole = span("label", t("default for"));
    role = document.createElement("select");
    for (const value of ["", "reader", "lead", "qa", "admin"]) role.add(new Option(value ? t(value) : t("nobody"), value));
    forRole.append(role);
    box.append(line, forRole);
  }
  const button = span("button", t("Save view"));
  button.type = "button";
  button.addEventListener("click", async () => {
    if (!name.value.trim()) { name.focus(); return; }
    const body = { name: name.value.trim(), filters: filters(), columns: [...columns.keys()], density: known.density, shared: shared?.checked ?? false, default_for: role?.value ?? "" };
    try {
      const { said } = await put("/api/v1/views", body);
      views.splice(0, views.length, ...said.views);
      box.closest(".view-form").firstChild.replaceWith(saved(views));
      toast(t("Saved."));
    } catch (problem) { tell(problem); }
  });
  box.append(button);
  return box;
}
