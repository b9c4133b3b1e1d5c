// The edge of the side panel: moved by arrow keys or by the pointer, kept for this person.

import { ask } from "./api.js";

const MIN = 280;
const MAX = 1200;
const STEP = 20;

export function makeGrip(grip, panel, first) {
  let width = first ?? 480;
  let saving = 0;
  const set = (wanted) => {
    width = Math.round(Math.min(MAX, Math.max(MIN, Math.min(wanted, innerWidth - 320))));
    panel.style.width = `${width}px`;
    grip.setAttribute("aria-valuenow", String(width));
    clearTimeout(saving);
    saving = setTimeout(() => ask("/api/v1/preferences", { method: "PUT", body: { panel_width: width } }).catch(() => {}), 800);
  };
  if (first) { panel.style.width = `${width}px`; grip.setAttribute("aria-valuenow", String(width)); }
  grip.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: STEP, ArrowRight: -STEP }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    set(panel.offsetWidth + by);
  });
  grip.addEventListener("pointerdown", (event) => {
    grip.setPointerCapture(event.pointerId);
    const move = (moved) => set(panel.getBoundingClientRect().right - moved.clientX);
    grip.addEventListener("pointermove", move);
    grip.addEventListener("pointerup", () => grip.removeEventListener("pointermove", move), { once: true });
  });
}
