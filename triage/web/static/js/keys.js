// Single keys act while the focus is in the list or the panel, never in a text field (ux 7). F-keys stay free.

/** Words with the key that this person chose for them; `key` is nothing where single keys are off. */
export const keyed = (words, key) => (key ? `${words} (${key})` : words);

/** `table`: {key: run}; with `single` false only keys with a name (arrows, Enter, Esc ...) act (WCAG 2.1.4). */
export function bindKeys(table, { active, single = true }) {
  let afterG = false;
  document.addEventListener("keydown", (event) => {
    // What a dialog has taken (a digit, say) is not also a key of the list.
    if (!active() || event.defaultPrevented || event.altKey || event.metaKey) return;
    const field = event.target.closest("input:not([type=checkbox]):not([type=range]), select, textarea");
    const letter = event.key.length === 1;
    const shifted = event.shiftKey && (!letter || /[a-z]/i.test(event.key));
    const key = letter ? event.key.toLowerCase() : event.key;
    const name = (event.ctrlKey ? "Ctrl+" : "") + (shifted ? "Shift+" : "") + key;
    if (field && key !== "Escape") return;
    if (event.key === "Enter" && event.target.closest("button, a, summary")) return;
    if (event.key === " " && event.target.closest("button, a, summary, input")) return;
    if (!single && letter && key !== " " && !event.ctrlKey) return;
    const wanted = afterG ? table[`g ${key}`] : table[name];
    afterG = !afterG && name === "g";
    if (!wanted) return;
    event.preventDefault();
    wanted(event);
  });
}
