// One dialog at a time: choices by digit, a text, or a confirmation that names the patient again.

import { span } from "./cell.js";
import { t } from "./words.js";

const dialog = document.getElementById("dialog");

export const isOpen = () => dialog.open;
export const close = () => dialog.close();

/** Resolves to {value, text} of the chosen button, or null. `choices`: [[value, words]...]. */
export function choose({ title, text = "", choices = [], digits = null, field = "", required = false, confirm = "", select = null, more = null }) {
  return new Promise((resolve) => {
    const form = document.createElement("form");
    form.method = "dialog";
    const heading = span("h2", title);
    heading.id = "dialog-title";
    dialog.setAttribute("aria-labelledby", heading.id);
    form.append(heading);
    if (text) form.append(span("p", text));
    let answer = null;
    let input = null;
    const finish = (value) => {
      answer = { value, text: input?.value.trim() ?? "" };
      dialog.close();
    };
    if (choices.length) {
      const box = span("div", "", "choices");
      choices.forEach(([value, words], i) => {
        const button = document.createElement("button");
        button.type = "button";
        const digit = digits?.[i] ?? i + 1;
        if (digit <= 9) button.append(span("kbd", String(digit)), " ");
        button.append(words);
        button.dataset.digit = String(digit);
        button.addEventListener("click", () => finish(value));
        box.append(button);
      });
      form.append(box);
    }
    if (field || select) {
      const label = span("label", field || t("To"));
      input = document.createElement(select ? "select" : "input");
      if (select) for (const [value, words] of select) input.add(new Option(words, value));
      else { input.maxLength = 200; input.required = required; }
      label.append(input);
      form.append(label);
    }
    if (more) form.append(more);
    const end = span("div", "", "end");
    const no = span("button", t("Cancel"));
    no.type = "button";
    no.addEventListener("click", () => dialog.close());
    end.append(no);
    if (confirm) {
      const yes = span("button", confirm, "primary");
      yes.type = "submit";
      end.append(yes);
      form.addEventListener("submit", (event) => { event.preventDefault(); finish("yes"); });
    }
    form.append(end);
    dialog.replaceChildren(form);
    dialog.onkeydown = (event) => {
      if (event.target.matches("input:not([type=checkbox]), select")) return;
      const button = dialog.querySelector(`[data-digit="${event.key}"]`);
      if (button) { event.preventDefault(); button.click(); }
    };
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
    // A reason is typed at once: with the focus on a button its first blank would press it, and the rest would be keys of the list.
    (dialog.querySelector("[data-digit]") ?? input ?? dialog.querySelector(".primary") ?? no).focus();
  });
}

const toasts = document.getElementById("toasts");

/** A short message; errors stay longer and show their reference. */
export function toast(text, { bad = false, action = null, ms = bad ? 12_000 : 4_000 } = {}) {
  const made = span("div", "", `toast${bad ? " bad" : ""}`);
  made.setAttribute("role", bad ? "alert" : "status");
  made.append(span("span", text));
  const gone = setTimeout(() => made.remove(), ms);
  if (action) {
    const button = span("button", action.words);
    button.addEventListener("click", () => { clearTimeout(gone); made.remove(); action.run(); });
    made.append(button);
  }
  toasts.append(made);
  return made;
}

export function tell(problem) {
  toast(problem.reference ? t("%(what)s (reference %(number)s)", { what: problem.message, number: problem.reference }) : problem.message, { bad: true });
}
