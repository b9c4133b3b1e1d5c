// A reader's acts. The server decides; a conflict is shown, never guessed (ux 2.9).

import { act, ask } from "./api.js";
import { choose, tell, toast } from "./dialog.js";
import { minutes, now } from "./time.js";

const path = (uid, name) => `/api/v1/studies/${uid}/${name}`;

/** `page`: {refresh, row(uid), known, stale()} */
export function makeActs(page) {
  let undoable = null;

  async function run(work) {
    if (page.stale()) {
      toast("The list is out of date: nothing can be claimed or acknowledged until the server answers.", { bad: true });
      return null;
    }
    try {
      return await work();
    } catch (problem) {
      if (problem.status === undefined) throw problem;
      tell(problem);
      return null;
    } finally {
      page.refresh();
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
    });
  }

  async function takeOver(uid, body, held) {
    const left = held.until ? `, ${minutes(Date.parse(held.until) - now())} left` : "";
    const name = page.known.names[held.holder] ?? held.holder;
    const chosen = await choose({
      title: `${name} has this study${left}`,
      text: "Take it over? The reason is kept, and the list shows the change to everybody.",
      choices: page.known.takeOver.map((words) => [words, words]),
      field: "Another reason", confirm: "Take over with this reason",
    });
    const reason = chosen && (chosen.value === "yes" ? chosen.text : chosen.value);
    if (!reason) return null;
    return (await act(path(uid, "claim"), { ...body, take_over: reason })).said;
  }

  async function next() {
    return run(async () => {
      const answer = await act("/api/v1/worklist/next");
      if (answer.status === 204) { toast("Nothing is free to read."); return null; }
      return answer.said;
    });
  }

  const release = (uid) => run(async () => { await act(path(uid, "release")); toast("Released."); });
  const keep = (uid) => run(async () => { await act(path(uid, "keep")); toast("Kept for another 10 minutes."); });

  async function feedback(uid, verdict) {
    let finding = "";
    let chip = "";
    if (verdict === "missed") {
      const chosen = await choose({ title: "Which finding was missed?", choices: page.known.missed });
      if (!chosen) return;
      finding = chosen.value;
    }
    await run(async () => {
      await act(path(uid, "feedback"), { verdict, finding, chip });
      undoable = uid;
      setTimeout(() => { if (undoable === uid) undoable = null; }, 10_000);
      const words = { agree: "Agreed", disagree: "Disagreed", missed: "Missed finding noted" }[verdict];
      toast(`${words}. For quality: changes neither report nor priority.`, { ms: 10_000, action: { words: "Undo Z", run: undo } });
    });
  }

  /** D, then a digit: the chip is optional, so Esc before it gives up the whole word. */
  async function disagree(uid) {
    const chosen = await choose({ title: "Disagree: why?", choices: page.known.chips, confirm: "No reason" });
    if (!chosen) return;
    const chip = chosen.value === "yes" ? "" : chosen.value;
    let text = "";
    if (chip === "other") text = (await choose({ title: "In a few words", field: "Reason", confirm: "Store" }))?.text ?? "";
    await run(async () => {
      await act(path(uid, "feedback"), { verdict: "disagree", chip, text });
      undoable = uid;
      setTimeout(() => { if (undoable === uid) undoable = null; }, 10_000);
      toast("Disagreed. For quality: changes neither report nor priority.", { ms: 10_000, action: { words: "Undo Z", run: undo } });
    });
  }

  async function undo() {
    if (!undoable) { toast("Nothing to undo: feedback can be taken back for 10 seconds."); return; }
    const uid = undoable;
    undoable = null;
    await run(async () => { await ask(path(uid, "feedback"), { method: "DELETE", body: {} }); toast("Taken back."); });
  }

  async function raise(uid) {
    const row = page.row(uid);
    const chosen = await choose({
      title: "Class by hand", text: "A person may raise any study, and lower what a person raised.",
      choices: [["critical", "!! critical"], ["high", "! high"], ["elevated", "^ elevated"], ["routine", "take back what was raised by hand"]],
    });
    if (!chosen) return;
    const why = await choose({ title: "Why?", text: "The reason is shown on the list.", field: "Reason", confirm: "Set" });
    if (!why?.text) return;
    await run(() => act(path(uid, "override"), { priority_class: chosen.value, reason: why.text }, { version: row?.version }));
  }

  async function report(uid) {
    const chosen = await choose({
      title: "Reported", text: "The study leaves the list and its alerts close. The report itself is written in your RIS.",
      choices: [["preliminary", "preliminary report"], ["final", "final report"], ["addendum", "addendum"]],
    });
    if (chosen) await run(() => act(path(uid, "report"), { state: chosen.value }));
  }

  async function acknowledge(alert) {
    const sure = await choose({
      title: "Acknowledge this alert?", text: `${alert.finding}: ${alert.name}, ${alert.location}. It means: seen, I take care of it. The ladder stops.`,
      confirm: "Acknowledge",
    });
    if (sure) await run(async () => { await act(`/api/v1/alerts/${alert.id}/acknowledge`); toast("Acknowledged."); });
  }

  async function handover(alert) {
    const chosen = await choose({
      title: "Hand over to", text: `${alert.finding}: ${alert.name}. The ladder goes on until somebody acknowledges.`,
      select: page.known.colleagues, confirm: "Hand over",
    });
    if (chosen?.text) await run(async () => { await act(`/api/v1/alerts/${alert.id}/handover`, { to: chosen.text }); toast("Handed over."); });
  }

  const later = (alert) => run(() => act(`/api/v1/alerts/${alert.id}/later`));
  const overlay = (uid) => run(() => act(path(uid, "overlay")));

  return { claim, next, release, keep, agree: (uid) => feedback(uid, "agree"), missed: (uid) => feedback(uid, "missed"),
           disagree, undo, raise, report, acknowledge, handover, later, overlay };
}
