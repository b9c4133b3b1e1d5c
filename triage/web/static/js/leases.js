// Claims of this reader: renewed while they are read, asked about before they end; and what others did to them (ux 5.6).

import { act } from "./api.js";
import { toast } from "./dialog.js";
import { keyed } from "./keys.js";
import { minutes, now } from "./time.js";
import { t } from "./words.js";

const KEEP_EVERY_MS = 60_000;
const ACTIVE_MS = 5 * 60_000;
const WARN_MS = 2 * 60_000;

/** `rows()`: the rows of the list, by UID. */
export function makeLeases({ known, rows, openUid, keep }) {
  const warned = new Map();
  let keptAt = 0;
  let activeAt = performance.now();
  for (const kind of ["keydown", "pointerdown"]) document.addEventListener(kind, () => { activeAt = performance.now(); });

  function tick() {
    for (const row of rows().values()) {
      if (!row.mine) continue;
      const left = row.until - now();
      const read = row.uid === openUid() && performance.now() - activeAt < ACTIVE_MS;
      if (read && Date.now() - keptAt > KEEP_EVERY_MS && left < 9 * 60_000 && left > 0) {
        keptAt = Date.now();
        act(`/api/v1/studies/${row.uid}/keep`).catch(() => {});
      }
      if (left < WARN_MS && left > 0 && warned.get(row.uid) !== row.until) {
        warned.set(row.uid, row.until);
        toast(t("Your claim on %(name)s ends in %(left)s.", { name: row.name, left: minutes(left) }), { ms: 60_000, action: { words: keyed(t("Keep"), known.hints.keep), run: () => keep(row.uid) } });
      }
    }
  }

  /** An event that speaks to this reader by name. */
  function hear(said) {
    const name = rows().get(said.study_uid)?.name ?? t("a study");
    const who = (reader) => known.names[reader] ?? reader;
    if (said.taken_from === known.me) toast(t("%(who)s took over %(name)s: %(why)s", { who: who(said.claimed_by), name, why: said.reason }), { ms: 20_000 });
    if (said.expired_for === known.me) toast(t("Your claim on %(name)s has ended.", { name }), { ms: 20_000 });
    if (said.asked_by && said.holder === known.me) toast(t("%(who)s asks you for %(name)s.", { who: who(said.asked_by), name }), { ms: 20_000 });
    if (said.free_for?.includes(known.me)) toast(t("%(name)s is free now.", { name }), { ms: 20_000 });
    if (said.assigned_by && said.claimed_by === known.me && said.assigned_by !== known.me) toast(t("%(who)s assigned %(name)s to you.", { who: who(said.assigned_by), name }), { ms: 20_000 });
  }

  /** The one of mine that ends first. */
  const first = () => [...rows().values()].filter((r) => r.mine).sort((a, b) => a.until - b.until)[0];
  return { tick, hear, first };
}
