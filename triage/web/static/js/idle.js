// Nobody at the keyboard for ten minutes: the page is covered, nothing of a patient stays on the screen (ux 5.10).

const COVER_MS = 10 * 60_000;
let active = Date.now();

for (const kind of ["keydown", "pointerdown", "pointermove", "wheel"]) {
  document.addEventListener(kind, () => { active = Date.now(); }, { passive: true });
}
setInterval(() => {
  if (Date.now() - active > COVER_MS) {
    location.replace(`/covered?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
}, 5_000);

/** Somebody was here in the last minute: a page that fetches then keeps the session. */
export const somebodyIsHere = () => Date.now() - active < 60_000;
