// Single keys act while the focus is in the list or the panel, never in a text field (ux 7). F-keys stay free.

export function bindKeys(table, { active }) {
  let afterG = false;
  document.addEventListener("keydown", (event) => {
    // What a dialog has taken (a digit, say) is not also a key of the list.
    if (!active() || event.defaultPrevented || event.altKey || event.metaKey) return;
    const field = event.target.closest("input:not([type=checkbox]):not([type=range]), select, textarea");
    const name = (event.ctrlKey ? "Ctrl+" : "") + (event.shiftKey && event.key.length > 1 ? "Shift+" : "") + event.key;
    if (field && name !== "Escape") return;
    if (event.key === "Enter" && event.target.closest("button, a, summary")) return;
    if (event.key === " " && event.target.closest("button, a, summary, input")) return;
    const key = event.key.length === 1 && !event.ctrlKey ? event.key.toLowerCase() : name;
    const wanted = afterG ? table[`g ${key}`] : table[key];
    afterG = !afterG && key === "g";
    if (!wanted) return;
    event.preventDefault();
    wanted(event);
  });
}
