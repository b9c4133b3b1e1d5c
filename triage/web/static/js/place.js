// Where the reader was: kept in the browser's history entry (study UIDs and pixels, nothing of a patient), so that
// Back and reload lead to the same rows, the same place and the same focus (ux 5.5).

const SAVE_MS = 200;

export function makePlace(scroller, list) {
  let saving = 0;
  const save = () => {
    clearTimeout(saving);
    saving = setTimeout(now, SAVE_MS);
  };
  const now = () => {
    clearTimeout(saving);
    history.replaceState({ count: list.shown.length, top: scroller.scrollTop, current: list.current }, "");
  };
  scroller.addEventListener("scroll", save, { passive: true });
  document.addEventListener("focusin", save);
  return {
    now,
    /** After the rows came: the same row focused, at the same pixel. */
    restore(state) {
      if (!state) return;
      if (state.current && list.rows.has(state.current)) list.select(state.current);
      scroller.scrollTop = state.top ?? 0;
      list.draw();
    },
  };
}
