// The side panel: why, preview, time line, history. Comes from the server as a piece of page; here it is only moved.

import { ask } from "./api.js";
import { t } from "./words.js";

const PRESETS = { ct: { 1: [-600, 1500], 2: [40, 350], 3: [400, 1800] } };
const RANGES = { ct: { center: [-1000, 1000], width: [1, 4000] }, film: { center: [0, 4095], width: [1, 8190] } };
const SVG = "http://www.w3.org/2000/svg";

export class Panel {
  constructor(place, { onAct, onOverlay }) {
    Object.assign(this, { place, onAct, onOverlay });
    this.uid = place.querySelector("header")?.dataset.uid ?? null;
    this.tab = "why";
    this.asking = null;
    place.addEventListener("click", (event) => this.clicked(event));
    place.addEventListener("input", (event) => this.dragged(event));
    if (this.uid) this.arrived();
  }

  get isOpen() { return !this.place.hidden; }
  /** Whom it shows, where the study can still be claimed or is ours; else "". */
  get claimable() { return this.place.querySelector("[data-act=claim], [data-act=release]") ? this.place.querySelector("h2 span").textContent : ""; }

  /** Show a study. Of several calls on their way the last one wins: an older answer may not put another patient here. */
  async open(uid, tab = null) {
    const mine = (this.asking = { uid });
    let said;
    try {
      ({ said } = await ask(`/worklist/${uid}/panel`, { headers: { Accept: "text/html" } }));
    } finally {
      if (this.asking === mine) this.asking = null;
      else said = null;
    }
    if (!said) return;
    // Escaped by the server's templates; parsed here without running anything, and CSP forbids inline script besides.
    const piece = new DOMParser().parseFromString(said.text, "text/html");
    this.place.replaceChildren(...document.importNode(piece.body, true).childNodes);
    this.place.hidden = false;
    this.uid = uid;
    this.arrived();
    this.show(tab ?? this.tab);
  }

  /** The same study again, after something changed; keeps the tab, the picture and the scroll. */
  async refresh() {
    if (!this.isOpen || this.asking || this.tab === "preview" || this.reading) return;
    const top = this.place.scrollTop;
    const focused = document.activeElement?.id;
    await this.open(this.uid);
    this.place.scrollTop = top;
    if (focused) document.getElementById(focused)?.focus();
  }

  /** Somebody is marking text in the panel: it stays as it is. */
  get reading() { return (getSelection()?.toString() ?? "") !== "" && this.place.contains(getSelection().anchorNode); }

  close() {
    this.asking = null;
    this.place.hidden = true;
    this.place.replaceChildren();
    this.uid = null;
    this.tab = "why";
  }

  arrived() {
    this.view = { invert: false, preset: "", center: null, width: null, overlay: false };
    const box = this.box;
    if (!box) return;
    for (const name of ["center", "width"]) {
      const [low, high] = RANGES[box.dataset.kind][name];
      Object.assign(this.tool(name), { min: low, max: high });
    }
  }

  get box() { return this.place.querySelector(".preview[data-kind]"); }
  tool(name) { return this.place.querySelector(`[data-tool="${name}"]`); }

  show(tab) {
    this.tab = tab;
    for (const button of this.place.querySelectorAll("[data-panel-tab]")) {
      const on = button.dataset.panelTab === tab;
      button.setAttribute("aria-selected", String(on));
      this.place.querySelector(`#part-${button.dataset.panelTab}`).hidden = !on;
    }
    if (tab === "preview") this.draw();
  }

  clicked(event) {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.panelTab) this.show(button.dataset.panelTab);
    else if (button.dataset.preset) this.preset(button.dataset.preset);
    else if (button.dataset.tool) this.key({ invert: "i", overlay: "o", reset: "0" }[button.dataset.tool]);
    else if (button.dataset.act) this.onAct(button.dataset.act, button.dataset.finding ?? "");
  }

  dragged(event) {
    const name = event.target.dataset.tool;
    if (name === "center" || name === "width") { this.view[name] = Number(event.target.value); this.draw(); }
    if (name === "frame") this.draw();
  }

  preset(key) {
    const kind = this.box?.dataset.kind;
    if (!kind) return;
    const [center, width] = PRESETS[kind]?.[key] ?? [null, null];
    Object.assign(this.view, { center, width, preset: kind === "film" && key === "2" ? "stretched" : "" });
    this.draw();
  }

  /** A key of the preview; true when it was one. */
  key(key) {
    if (!this.box || this.tab !== "preview") return false;
    const steps = { "[": ["width", 0.9], "]": ["width", 1.1], ";": ["center", -1], "'": ["center", 1] };
    if (key === "i") this.view.invert = !this.view.invert;
    else if (key === "o" && this.tool("overlay")) this.toggleOverlay();
    else if (key === "0") this.arrived();
    else if (/^[1-3]$/.test(key)) this.preset(key);
    else if (steps[key]) {
      const [name, by] = steps[key];
      const now = Number(this.tool(name).value);
      const width = Number(this.tool("width").value);
      this.view[name] = name === "width" ? Math.max(1, now * by) : now + (by * width) / 20;
    } else return false;
    this.draw();
    return true;
  }

  toggleOverlay() {
    this.view.overlay = !this.view.overlay;
    if (this.view.overlay) this.onOverlay(this.uid); // its use is audited
  }

  async draw() {
    const box = this.box;
    if (!box) return;
    const query = new URLSearchParams();
    if (this.tool("frame")) query.set("frame", this.tool("frame").value);
    for (const name of ["center", "width"]) if (this.view[name] !== null) query.set(name, String(this.view[name]));
    if (this.view.invert) query.set("invert", "true");
    if (this.view.preset) query.set("preset", this.view.preset);
    this.tool("invert").setAttribute("aria-pressed", String(this.view.invert));
    const image = box.querySelector("img");
    const asked = `${image.dataset.src}?${query}`;
    this.asked = asked;
    this.outline();
    const response = await fetch(asked).catch(() => null);
    if (this.asked !== asked) return; // a newer wish overtook this one
    if (!response?.ok) {
      const body = await response?.json().catch(() => null);
      image.hidden = true;
      box.querySelector(".label").textContent = body?.detail ?? t("The preview cannot be loaded now.");
      return;
    }
    const [center, width] = ["Center", "Width"].map((n) => Number(response.headers.get(`X-Triage-${n}`)));
    this.tool("center").value = center;
    this.tool("width").value = width;
    this.tool("values").textContent = `W ${Math.round(width)}  L ${Math.round(center)}`;
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(await response.blob());
    image.hidden = false;
    image.src = this.url;
    box.querySelector(".label").textContent = t("PREVIEW, NOT FOR DIAGNOSIS");
  }

  /** Overlay mode alone: in triage-only mode the server sends no places, so there is nothing to draw. */
  outline() {
    const box = this.box;
    box.querySelector("svg")?.remove();
    this.tool("overlay")?.setAttribute("aria-pressed", String(this.view.overlay));
    if (!this.view.overlay || !box.dataset.outlines) return;
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${box.dataset.columns} ${box.dataset.rows}`);
    for (const finding of JSON.parse(box.dataset.outlines)) {
      if (!finding.location?.outline?.length) continue;
      const polygon = document.createElementNS(SVG, "polygon");
      polygon.setAttribute("points", finding.location.outline.map((p) => p.join(",")).join(" "));
      svg.append(polygon);
    }
    box.append(svg);
  }
}
