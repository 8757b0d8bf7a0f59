// The scores of the last parts over time, with both thresholds. A click opens the nearest part.

import { get } from "/page/api.js";
import { $, draw, number, setAttribute } from "/page/dom.js";

const LAST = 200;
const FEW = 60; // fewer points are not drawn further apart
const LEFT = 8, RIGHT = 124, TOP = 10, BOTTOM = 8;
const REACH = 24; // pixels around a point that count as the point

export class Chart {
  constructor({ onPick }) {
    this.scores = [];
    this.picked = null;
    this.onPick = onPick;
    this.svg = draw("svg", { role: "img" });
    this.zones = draw("g", { class: "zones" });
    this.lines = draw("g", { class: "lines" });
    this.points = draw("g", { class: "points" });
    this.svg.append(this.zones, this.lines, this.points);
    $("chart").append(this.svg);
    this.svg.addEventListener("click", (event) => this.#clicked(event));
    new ResizeObserver(() => this.draw()).observe($("chart"));
  }

  async load(model) {
    this.model = model;
    const answer = await get(`/v1/models/${encodeURIComponent(model)}/scores`, { last: LAST });
    if (this.model !== model) return;
    this.scores = answer.scores;
    this.thresholds = answer.thresholds;
    this.draw();
  }

  // New parts, the newest first.
  add(rows, sha256) {
    const last = this.scores.at(-1)?.[0] ?? 0;
    const fresh = rows.filter(
      (row) => row.model_sha256 === sha256 && row.score !== null && row.sequence > last,
    );
    if (!fresh.length) return;
    const found = fresh.map((row) => [row.sequence, row.score]).reverse();
    this.scores = [...this.scores, ...found].slice(-LAST);
    this.draw();
  }

  pick(sequence) {
    this.picked = sequence;
    this.draw();
  }

  draw() {
    const { width, height } = $("chart").getBoundingClientRect();
    if (!this.thresholds || width < 10 || height < 10) return;
    setAttribute(this.svg, "viewBox", `0 0 ${width} ${height}`);
    const { review, reject } = this.thresholds;
    this.#scale(width, height);
    this.#limits(width, height, review, reject);
    const said = `${this.scores.length} scores; REVIEW above ${number(review)}, NG above ${number(reject)}`;
    setAttribute(this.svg, "aria-label", said);
    this.#marks(review, reject);
  }

  #scale(width, height) {
    const { review, reject } = this.thresholds;
    const values = [...this.scores.map(([, score]) => score), review, reject];
    const sorted = values.slice().sort((a, b) => a - b);
    const usual = sorted[Math.floor(sorted.length / 2)];
    const most = reject + 2 * Math.max(reject - usual, 1e-9); // higher scores sit at the edge
    const high = Math.min(sorted.at(-1), most);
    const low = sorted[0];
    const pad = 0.06 * (high - low || 1);
    this.y = (score) => {
      const part = (Math.min(score, high) - low + pad) / (high - low + 2 * pad);
      return height - BOTTOM - part * (height - TOP - BOTTOM);
    };
    const room = Math.max(this.scores.length, FEW) - 1;
    const step = (width - LEFT - RIGHT) / room;
    this.x = (index) => width - RIGHT - (this.scores.length - 1 - index) * step;
  }

  #limits(width, height, review, reject) {
    const right = width - RIGHT + 10;
    const yReview = this.y(review), yReject = this.y(reject);
    const near = Math.abs(yReview - yReject) < 18;
    const line = (name, y) => draw("line", { class: name, x1: 0, x2: right, y1: y, y2: y });
    const label = (name, value, y) => {
      const text = draw("text", { class: name, x: right + 6, y, "dominant-baseline": "middle" });
      text.append(`${name} ${number(value)}`);
      return text;
    };
    this.zones.replaceChildren(
      draw("rect", { class: "NG", x: 0, width: right, y: 0, height: Math.max(0, yReject) }),
      draw("rect", {
        class: "REVIEW", x: 0, width: right, y: yReject, height: Math.max(0, yReview - yReject),
      }),
    );
    const middle = (yReview + yReject) / 2;
    this.lines.replaceChildren(
      line("REVIEW", yReview),
      line("NG", yReject),
      label("REVIEW", review, near ? middle + 9 : yReview),
      label("NG", reject, near ? middle - 9 : yReject),
    );
  }

  #marks(review, reject) {
    const marks = this.scores.map(([sequence, score], index) => {
      const zone = score > reject ? "NG" : score > review ? "REVIEW" : "OK";
      const x = this.x(index), y = this.y(score);
      const mark = draw("path", { class: zone, d: SHAPES[zone](x, y) });
      return sequence === this.picked ? [ring(x, y), mark] : [mark];
    });
    this.points.replaceChildren(...marks.flat());
  }

  #clicked(event) {
    const box = this.svg.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    let best = null, distance = REACH;
    this.scores.forEach(([sequence, score], index) => {
      const away = Math.hypot(this.x(index) - x, this.y(score) - y);
      if (away < distance) [best, distance] = [sequence, away];
    });
    if (best !== null) this.onPick(best);
  }
}

const SHAPES = {
  OK: (x, y) => `M${x - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`,
  REVIEW: (x, y) => `M${x} ${y - 5}l5 9h-10z`,
  NG: (x, y) => `M${x - 4} ${y - 4}h8v8h-8z`,
};

const ring = (x, y) =>
  draw("path", { class: "ring", d: `M${x - 9} ${y}a9 9 0 1 0 18 0a9 9 0 1 0 -18 0` });
