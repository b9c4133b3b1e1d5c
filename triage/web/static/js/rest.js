// Is the list at rest? Places change only then (ux 6.3).

const QUIET_MS = 1500;
export const FREEZE_MS = 10 * 60_000;

export function watchRest(area, isBusy, now = () => performance.now()) {
  let touched = -Infinity;
  let over = false;
  let frozenAt = null;
  const touch = () => { touched = now(); };
  area.addEventListener("pointerover", (e) => { over = Boolean(e.target.closest("tr[data-uid]")); if (over) touch(); });
  area.addEventListener("pointerleave", () => { over = false; touch(); });
  area.addEventListener("wheel", touch, { passive: true });
  document.addEventListener("keydown", touch);
  return {
    touch,
    freeze(on) { frozenAt = on ? now() : null; },
    /** Frozen by F; ends by itself after ten minutes. */
    get frozen() {
      if (frozenAt !== null && now() - frozenAt > FREEZE_MS) frozenAt = null;
      return frozenAt !== null;
    },
    get atRest() {
      const selecting = (getSelection()?.toString() ?? "") !== "";
      return !over && !this.frozen && !selecting && !isBusy() && now() - touched > QUIET_MS;
    },
  };
}
