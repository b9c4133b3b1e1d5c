// Times that count by themselves, by the server's clock: a wrong clock of this computer changes nothing (ux 14).

import { t } from "./words.js";

let offset = 0; // server minus this computer, milliseconds

export function heard(asOf) {
  offset = Date.parse(asOf) - Date.now();
}
export const now = () => Date.now() + offset;
export const computerIsWrong = () => Math.abs(offset) > 60_000;

/** `0:42` from milliseconds: hours and minutes. */
export function hours(ms) {
  const minutes = Math.floor(Math.abs(ms) / 60_000);
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}`;
}
/** `8:12`: minutes and seconds of a lease. */
export function minutes(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** Draw one counting cell; kinds: until (a limit), since (a wait), lease. */
export function tick(cell) {
  const at = Number(cell.dataset.at);
  const place = cell.querySelector(".time");
  if (!place || !at) return;
  const kind = cell.dataset.k;
  if (kind === "since") set(place, hours(Math.max(0, now() - at)));
  if (kind === "lease") set(place, minutes(at - now()));
  if (kind === "until") {
    const late = now() > at;
    set(place, hours(at - now()));
    if (late && !cell.classList.contains("t-critical")) {
      cell.classList.add("t-critical");
      const word = document.createElement("b");
      word.textContent = t("OVERDUE");
      cell.prepend(word, " ");
    }
  }
}
function set(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
