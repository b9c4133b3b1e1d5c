// The banner: critical and unanswered, in its reserved slot. Closed by an act of a person or by the server, never by a
// cross, by scrolling or by time (ux 9).

import { span } from "./cell.js";
import { tick } from "./time.js";
import { t } from "./words.js";

export function makeBanner(slot, shout, { mayAct, keys, open, acknowledge, handover, later, list }) {
  let alerts = [];
  let announced = new Set();
  return {
    get first() { return alerts[0] ?? null; },
    tick() { slot.querySelectorAll("[data-k]").forEach(tick); },
    show(coming) {
      const fresh = coming.filter((a) => !announced.has(a.id));
      if (fresh.length) shout.textContent = `${t("Critical:")} ${fresh[0].finding}, ${fresh[0].name}, ${fresh[0].location}`;
      announced = new Set(coming.map((a) => a.id));
      const same = JSON.stringify(coming) === JSON.stringify(alerts);
      alerts = coming;
      if (!same || !slot.firstChild !== !alerts.length) draw();
    },
  };

  function draw() {
    if (!alerts.length) { slot.replaceChildren(); return; }
    const alert = alerts[0];
    const box = span("div", "", "banner");
    box.dataset.alert = alert.id;
    const drill = t("DRILL");
    const kind = alert.exhausted ? t("CRITICAL, NOBODY ANSWERED") : t("CRITICAL");
    box.append(span("span", `!! ${alert.drill ? drill : kind}`, "what"));
    const acquired = alert.drill ? [] : [alert.location, t("acquired %(at)s", { at: alert.acquired })];
    const line = span("span", [alert.finding, alert.name, ...acquired, `${t("waiting")} `].filter(Boolean).join(" · "), "line");
    const wait = span("span", "");
    wait.dataset.k = "since";
    wait.dataset.at = alert.since;
    wait.append(span("span", "", "time"));
    tick(wait);
    line.append(wait);
    if (alert.step) line.append(` · ${t("step %(n)s", { n: alert.step })}`);
    if (alert.assigned) line.append(` · ${t("handed to %(who)s", { who: alert.assigned })}`);
    box.append(line);
    if (alerts.length > 1) box.append(button(t("+%(n)s more", { n: alerts.length - 1 }), list, keys.alerts));
    if (!alert.drill) box.append(button(t("Open"), () => open(alert)));
    if (mayAct) {
      box.append(button(t("Acknowledge"), () => acknowledge(alert), keys.acknowledge), button(t("Hand over"), () => handover(alert), keys.handover));
      if (alert.may_later) box.append(button(t("Later"), () => later(alert)));
    }
    slot.replaceChildren(box);
  }

  function button(words, run, key) {
    const made = span("button", words);
    if (key) made.append(" ", span("kbd", key));
    made.addEventListener("click", run);
    return made;
  }
}
