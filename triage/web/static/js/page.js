// Pages of text that stay true: reload when something of their kind changed and nobody is in the middle of a form.

import "./idle.js";
import { somebodyIsHere } from "./idle.js";
import { follow } from "./live.js";
import { t } from "./words.js";

const live = document.getElementById("live");
const since = live.textContent;
let waiting = false;
let degraded = null;

const busy = () => document.querySelector("details[open]") !== null || document.activeElement?.matches("input, select");
function change(kind) {
  if (kind !== "poll" && kind !== live.dataset.kind) return;
  waiting = true;
}
setInterval(() => { if (waiting && !busy() && somebodyIsHere()) location.reload(); }, 500);

follow({
  onChange: change,
  onHealth(said) {
    const now = JSON.stringify(said.degraded);
    if (degraded !== null && degraded !== now) change("health");
    degraded = now;
  },
  onAge({ age, stale, offline }) {
    const text = offline ? t("Offline. What is shown may be old; nothing can be acknowledged.")
      : stale ? t("May be out of date: last news %(n)s s ago.", { n: Math.round(age / 1000) }) : since;
    if (live.textContent !== text) live.textContent = text;
  },
});
