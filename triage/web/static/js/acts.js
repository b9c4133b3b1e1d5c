// A reader's acts. The server decides; a conflict is shown, never guessed (ux 2.9).

import { act, ask } from "./api.js";
import { choose, tell, toast } from "./dialog.js";
import { keyed } from "./keys.js";
import { minutes, now } from "./time.js";
import { t, tn } from "./words.js";

const path = (uid, name) => `/api/v1/studies/${uid}/${name}`;

/** `page`: {refresh, row(uid), offers(uid), known, stale()}; `offers` names the patient of a study that the panel shows and that can be claimed. */
export function makeActs(page) {
  let undoable = null;
  let offered = null; // the message with Undo: only the last word can be taken back, so only one is shown

  /** `opens`: whoever asked shows the study first and the list after it, so that the reader waits for one answer alone. */
  async function run(work, { opens = false } = {}) {
    let done = null;
    if (page.stale()) {
      toast(t("The list is out of date: nothing can be claimed or acknowledged until the server answers."), { bad: true });
      return null;
    }
    try {
      done = await work();
      return done;
    } catch (problem) {
      if (problem.status === undefined) throw problem;
      tell(problem);
      return null;
    } finally {
      if (!opens || !done) page.refresh();
    }
  }

  async function claim(uid, { open }) {
    const row = page.row(uid);
    const body = { open, rank_shown: row?.rank ?? null };
    return run(async () => {
      try {
        return (await act(path(uid, "claim"), body, { version: row?.version })).said;
      } catch (problem) {
        if (problem.status === 409 && problem.body.holder) return takeOver(uid, body, problem.body);
        throw problem;
      }
    }, { opens: open });
  }

  async function takeOver(uid, body, held) {
    const name = page.known.names[held.holder] ?? held.holder;
    const left = held.until ? minutes(Date.parse(held.until) - now()) : "";
    const chosen = await choose({
      title: left ? t("%(name)s has this study, %(left)s left", { name, left }) : t("%(name)s has this study", { name }),
      text: t("Take it over? The reason is kept, and %(name)s is told.", { name }),
      choices: [...page.known.takeOver.map((words) => [words, words]), ["ask", t("ask %(name)s for it instead", { name })]],
      field: t("Another reason"), confirm: t("Take over with this reason"),
    });
    if (chosen?.value === "ask") {
      await act(path(uid, "ask"));
      toast(t("Asked. You are told when it is free."));
      return null;
    }
    const reason = chosen && (chosen.value === "yes" ? chosen.text : chosen.value);
    if (!reason) return null;
    return (await act(path(uid, "claim"), { ...body, take_over: reason })).said;
  }

  async function next() {
    return run(async () => {
      const answer = await act("/api/v1/worklist/next");
      if (answer.status === 204) { toast(t("Nothing is free to read.")); return null; }
      return answer.said;
    }, { opens: true });
  }

  const release = (uid) => run(async () => { await act(path(uid, "release")); toast(t("Released.")); });
  const keep = (uid) => run(async () => { await act(path(uid, "keep")); toast(t("Kept for another 10 minutes.")); });

  async function judge(uid, body, words) {
    await run(async () => {
      try {
        await act(path(uid, "feedback"), body);
      } catch (problem) {
        const name = problem.body?.needs === "claim" && page.offers(uid);
        if (!name) throw problem;
        if (!(await claimFirst(uid, name, body.verdict))) return;
        await act(path(uid, "feedback"), body);
      }
      undoable = uid;
      setTimeout(() => { if (undoable === uid) undoable = null; }, 10_000);
      offered?.remove();
      offered = toast(`${words} ${t("Feedback for quality. Does not change the report or the priority.")}`, { ms: 10_000, action: { words: keyed(t("Undo"), page.known.hints.undo), run: undo } });
    });
  }

  /** A word needs a reader who has the study (ux 5.7): whoever reads it in the panel without a claim is asked once, and the word waits. */
  async function claimFirst(uid, name, verdict) {
    const confirm = { agree: t("Claim and agree"), disagree: t("Claim and disagree"), missed: t("Claim and note as missed") }[verdict];
    const sure = await choose({ title: t("You have not opened this study yet"), text: t("%(name)s. Open and claim it, and store your word?", { name }), confirm });
    return sure && claim(uid, { open: true });
  }

  /** `finding` "" means all flags of the study. */
  const agree = (uid, finding = "") => judge(uid, { verdict: "agree", finding }, t("Agreed."));

  async function missed(uid) {
    const flagged = new Set(page.row(uid)?.flags);
    const [already, choices] = [true, false].map((is) => page.known.missed.filter(([name]) => flagged.has(name) === is));
    const text = already.length ? t("Flagged already, so not missed: %(names)s.", { names: already.map(([, words]) => words).join(", ") }) : "";
    const chosen = await choose({ title: t("Which finding was missed?"), text, choices });
    if (chosen) await judge(uid, { verdict: "missed", finding: chosen.value }, t("Missed finding noted."));
  }

  /** D, then a digit: the chip is optional, so Esc before it gives up the whole word. */
  async function disagree(uid, finding = "") {
    const chips = page.known.chips;
    const chosen = await choose({ title: t("Disagree: why?"), choices: chips, digits: [...chips.keys()].map((i) => (i === chips.length - 1 ? 0 : i + 1)), confirm: t("No reason") });
    if (!chosen) return;
    const chip = chosen.value === "yes" ? "" : chosen.value;
    let text = "";
    if (chip === "other") text = (await choose({ title: t("In a few words"), field: t("Reason"), confirm: t("Store") }))?.text ?? "";
    await judge(uid, { verdict: "disagree", finding, chip, text }, t("Disagreed."));
  }

  async function undo() {
    if (!undoable) { toast(t("Nothing to undo: feedback can be taken back for 10 seconds.")); return; }
    const uid = undoable;
    undoable = null;
    offered?.remove();
    await run(async () => { await ask(path(uid, "feedback"), { method: "DELETE", body: {} }); toast(t("Taken back.")); });
  }

  async function raise(uid) {
    const row = page.row(uid);
    const chosen = await choose({
      title: t("Class by hand"), text: t("A person may raise any study, and lower what a person raised."),
      choices: [...classes(), ["routine", t("take back what was raised by hand")]],
    });
    if (!chosen) return;
    const why = await choose({ title: t("Why?"), text: t("The reason is shown on the list."), field: t("Reason"), required: true, confirm: t("Set") });
    if (!why?.text) return;
    await run(() => act(path(uid, "override"), { priority_class: chosen.value, reason: why.text }, { version: row?.version }));
  }

  async function report(uid) {
    const chosen = await choose({
      title: t("Reported"), text: t("The study leaves the list and its alerts close. The report itself is written in your RIS."),
      choices: [["preliminary", t("preliminary report")], ["final", t("final report")], ["addendum", t("addendum")]],
    });
    if (chosen) await run(() => act(path(uid, "report"), { state: chosen.value }));
  }

  async function acknowledge(alert) {
    const sure = await choose({
      title: t("Acknowledge this alert?"), confirm: t("Acknowledge"),
      text: `${alert.finding}: ${alert.name}, ${alert.location}. ${t("It means: seen, I take care of it. The ladder stops.")}`,
    });
    if (sure) await run(async () => { await act(`/api/v1/alerts/${alert.id}/acknowledge`); toast(t("Acknowledged.")); });
  }

  async function handover(alert) {
    const chosen = await choose({
      title: t("Hand over to"), text: `${alert.finding}: ${alert.name}. ${t("The ladder goes on until somebody acknowledges.")}`,
      select: page.known.colleagues, confirm: t("Hand over"),
    });
    if (chosen?.text) await run(async () => { await act(`/api/v1/alerts/${alert.id}/handover`, { to: chosen.text }); toast(t("Handed over.")); });
  }

  const later = (alert) => run(() => act(`/api/v1/alerts/${alert.id}/later`));
  const overlay = (uid) => run(() => act(path(uid, "overlay")));

  const classes = () => [["critical", `!! ${t("critical")}`], ["high", `! ${t("high")}`], ["elevated", `^ ${t("elevated")}`]];

  /** One act on the selected rows; never acknowledge, judge or lower (ux 5.5). Resolves to the refused ones. */
  async function bulk(uids) {
    const chosen = await choose({
      title: tn("%(n)s study", "%(n)s studies", uids.length), text: t("What is refused stays selected, with its reason."),
      choices: [["assign", t("assign to a reader")], ["release", t("release my claims")], ["raise", t("raise")], ["label", t("label")], ["export", t("export")]],
    });
    if (!chosen) return null;
    if (chosen.value === "export") return "export";
    const body = { act: chosen.value, studies: uids.slice(0, 100) };
    if (chosen.value === "assign") {
      body.to = (await choose({ title: t("Assign to"), select: [[page.known.me, t("me")], ...page.known.colleagues], confirm: t("Assign") }))?.text;
      if (!body.to) return null;
    }
    if (chosen.value === "raise") {
      body.priority_class = (await choose({ title: t("Raise to"), choices: classes() }))?.value;
      if (!body.priority_class) return null;
      body.reason = (await choose({ title: t("Why?"), text: t("The reason is shown on the list."), field: t("Reason"), required: true, confirm: t("Set") }))?.text;
      if (!body.reason) return null;
    }
    if (chosen.value === "label") {
      const said = await choose({ title: t("Label"), text: t("Nothing takes the label away."), field: t("Label"), confirm: t("Set") });
      if (!said) return null;
      body.label = said.text;
    }
    return run(async () => {
      const { said } = await act("/api/v1/worklist/acts", body);
      const first = said.refused[0]?.detail ?? "";
      const words = tn("%(n)s done", "%(n)s done", said.done);
      toast(first ? `${words}, ${t("%(n)s refused: %(why)s", { n: said.refused.length, why: first })}` : words, { bad: Boolean(first) });
      return said.refused.map((r) => r.study_uid);
    });
  }

  return { claim, next, release, keep, agree, missed, bulk, disagree, undo, raise, report, acknowledge, handover, later, overlay };
}
