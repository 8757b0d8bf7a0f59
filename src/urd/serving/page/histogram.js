// Scores of parts and of good images as bars, with two lines that a person can move.

import { draw, number, setAttribute } from "/page/dom.js";

const WIDTH = 860, HEIGHT = 250, TOP = 44, BOTTOM = 26, SIDE = 14;
const BINS = 60;

export class Histogram {
  constructor(box, { onMove }) {
    this.onMove = onMove;
    this.svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}` });
    this.bars = draw("g", { "aria-hidden": "true" });
    this.svg.append(this.bars);
    this.handles = {};
    for (const name of ["review", "reject"]) this.#handle(name);
    box.append(this.svg);
  }

  // Choose the scale so that good parts and thresholds have most of the room.
  show(parts, good, limits) {
    const low = Math.min(...parts.concat(good), limits.review);
    const usual = good[Math.floor(good.length / 2)] ?? low;
    const most = limits.reject + 2 * Math.max(limits.reject - usual, 1e-9);
    const high = Math.max(limits.reject, Math.min(Math.max(...parts.concat(good)), most));
    const pad = 0.05 * (high - low || Math.abs(high) || 1);
    this.low = low - pad;
    this.high = high + 2 * pad;
    this.step = nice((this.high - this.low) / 400);
    this.#bars(parts, good);
  }

  #bars(parts, good) {
    const counts = [binned(parts, this), binned(good, this)];
    const width = (WIDTH - 2 * SIDE) / BINS;
    const base = HEIGHT - BOTTOM;
    const drawn = counts.flatMap((bins, kind) => {
      const highest = Math.max(...bins, 1);
      return bins.map((n, index) => {
        const height = n ? Math.max(2, ((base - TOP) * n) / highest) : 0;
        const x = SIDE + index * width + (kind ? width / 4 : 0.5);
        return draw("rect", {
          class: kind ? "good" : "parts", x, y: base - height,
          width: kind ? width / 2 : width - 1, height,
        });
      });
    });
    const text = (x, anchor, words) => {
      const node = draw("text", { x, y: HEIGHT - 6, "text-anchor": anchor });
      node.append(words);
      return node;
    };
    const axis = draw("line", { class: "axis", x1: 0, x2: WIDTH, y1: base + 0.5, y2: base + 0.5 });
    const right = `${number(this.high)} and above`;
    this.bars.replaceChildren(
      ...drawn, axis, text(SIDE, "start", number(this.low)), text(WIDTH - SIDE, "end", right),
      text(WIDTH / 2, "middle", "score"),
    );
  }

  // Put the lines at values, also outside of the scale.
  move(limits) {
    this.limits = limits;
    const x = { review: this.#x(limits.review), reject: this.#x(limits.reject) };
    for (const [name, { group, label, flag }] of Object.entries(this.handles)) {
      setAttribute(group, "transform", `translate(${x[name]} 0)`);
      setAttribute(group, "aria-valuenow", limits[name]);
      setAttribute(group, "aria-valuetext", number(limits[name]));
      setAttribute(group, "aria-valuemin", this.low);
      setAttribute(group, "aria-valuemax", this.high);
      label.textContent = `${name === "review" ? "REVIEW" : "NG"} above ${number(limits[name])}`;
      // Both labels stand outwards, so that they do not cover each other.
      const left = name === "review" ? x.review > 150 : x.reject > WIDTH - 150;
      setAttribute(label, "x", left ? -16 : 16);
      setAttribute(label, "text-anchor", left ? "end" : "start");
      setAttribute(label, "y", name === "review" ? 15 : left && x.review > 150 ? 37 : 15);
      setAttribute(flag, "cy", name === "review" ? 11 : 33);
    }
  }

  #x(value) {
    const part = (value - this.low) / (this.high - this.low);
    return SIDE + Math.min(1, Math.max(0, part)) * (WIDTH - 2 * SIDE);
  }

  #value(event) {
    const box = this.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    return this.low + ((x - SIDE) / (WIDTH - 2 * SIDE)) * (this.high - this.low);
  }

  #handle(name) {
    const flag = draw("circle", { r: 9, cx: 0, cy: 11 });
    const label = draw("text");
    const group = draw("g", {
      class: `handle ${name === "review" ? "REVIEW" : "NG"}`, id: `handle-${name}`,
      tabindex: 0, role: "slider",
      "aria-label": name === "review" ? "REVIEW above" : "NG above",
    });
    group.append(
      draw("rect", { class: "reach", x: -16, y: 0, width: 32, height: HEIGHT - BOTTOM }),
      draw("line", { x1: 0, x2: 0, y1: 2, y2: HEIGHT - BOTTOM }), flag, label,
    );
    group.addEventListener("pointerdown", (event) => {
      group.setPointerCapture(event.pointerId);
      group.focus();
      event.preventDefault();
    });
    group.addEventListener("pointermove", (event) => {
      if (group.hasPointerCapture(event.pointerId)) this.onMove(name, this.#value(event));
    });
    group.addEventListener("keydown", (event) => {
      const steps = KEYS[event.key];
      if (!steps) return;
      event.preventDefault();
      this.onMove(name, this.limits[name] + steps * this.step * (event.shiftKey ? 10 : 1));
    });
    this.handles[name] = { group, label, flag };
    this.svg.append(group);
  }
}

const KEYS = {
  ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10,
};

function binned(values, { low, high }) {
  const bins = Array(BINS).fill(0);
  for (const value of values) {
    const place = Math.floor((BINS * (value - low)) / (high - low));
    bins[Math.min(BINS - 1, Math.max(0, place))] += 1;
  }
  return bins;
}

// The nearest 1, 2 or 5 times a power of ten.
function nice(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return power * ([1, 2, 5].find((n) => n * power >= step) ?? 10);
}
