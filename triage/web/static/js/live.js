// Follows the event stream, or polls where there is none, and knows how old the page is (ux 6.1, 5.10).

const STALE_MS = 25_000;
const OLD_MS = 120_000;
const POLL_MS = 15_000;

export function follow({ onChange, onHealth, onAge, now = () => Date.now() }) {
  let heardAt = now();
  let stream = null;
  const beat = () => { heardAt = now(); };
  const open = () => {
    stream = new EventSource("/api/v1/events");
    stream.addEventListener("open", () => onChange("open"));
    stream.addEventListener("worklist", (e) => { beat(); onChange("worklist", JSON.parse(e.data)); });
    stream.addEventListener("alert", (e) => { beat(); onChange("alert", JSON.parse(e.data)); });
    stream.addEventListener("health", (e) => { beat(); onHealth(JSON.parse(e.data)); });
    stream.addEventListener("error", () => {
      // A refused stream (503 at the cap) does not come back by itself.
      if (stream.readyState === EventSource.CLOSED) setTimeout(open, POLL_MS);
    });
  };
  open();
  setInterval(() => { if (stream.readyState !== EventSource.OPEN) onChange("poll"); }, POLL_MS);
  setInterval(() => {
    const age = now() - heardAt;
    onAge({ age, stale: age > STALE_MS, old: age > OLD_MS, offline: !navigator.onLine });
  }, 1000);
  return { heard: beat, close: () => stream.close(), get age() { return now() - heardAt; } };
}
