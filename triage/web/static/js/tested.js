// The test of a peer or a route, step by step with its time and cause (ux 11).

import { act } from "./api.js";
import { span } from "./cell.js";
import { t } from "./words.js";

const box = document.getElementById("tested");
const [title, steps, advice] = box.children;

for (const button of document.querySelectorAll("[data-test]")) {
  button.addEventListener("click", async () => {
    const name = button.dataset.test;
    box.hidden = false;
    title.textContent = t("Test of %(name)s", { name });
    steps.replaceChildren();
    advice.textContent = t("Testing…");
    button.disabled = true;
    try {
      const { said } = await act(`${box.dataset.path}/${encodeURIComponent(name)}/test`);
      for (const step of said.steps) {
        const mark = { ok: "✓", failed: "✕" }[step.state] ?? "–";
        const time = step.seconds === null || step.seconds === undefined ? "" : ` ${Math.round(step.seconds * 1000)} ms`;
        const line = span("li", `${mark} ${step.name}${time}${step.detail ? `: ${step.detail}` : ""}`);
        if (step.state === "failed") line.className = "t-failed";
        steps.append(line);
      }
      advice.textContent = said.next ?? "";
    } catch (problem) {
      advice.textContent = problem.message;
    } finally {
      button.disabled = false;
    }
  });
}
