// Unsaved changes are not lost by a wrong click; the support text goes to the clipboard.

import { t } from "./words.js";

let dirty = false;
for (const form of document.querySelectorAll("form[data-guard]")) {
  form.addEventListener("input", () => { dirty = true; });
  form.addEventListener("submit", () => { dirty = false; });
}
addEventListener("beforeunload", (event) => { if (dirty) event.preventDefault(); });

const copy = document.getElementById("copy");
copy?.addEventListener("click", async () => {
  await navigator.clipboard.writeText(document.getElementById("support").content.textContent);
  copy.textContent = t("Copied");
});
