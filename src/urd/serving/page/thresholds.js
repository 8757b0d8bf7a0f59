// The dialog for thresholds: try them on the last parts, then change them with name and reason.

import { get, post } from "/page/api.js";
import {
  $, clock, count, make, number, person, plural, setText, shape, share,
} from "/page/dom.js";
import { Histogram } from "/page/histogram.js";
import { thumb } from "/page/parts.js";

const LAST = 500;
const SETTLED = 150; // ms without a move, before the server is asked
const SHOWN = 12; // examples

export class ThresholdDialog {
  constructor({ onChanged }) {
    this.onChanged = onChanged;
    this.histogram = new Histogram($("histogram"), {
      onMove: (name, value) => this.#moved(name, this.#rounded(value)),
    });
    for (const [id, name] of [["review-at", "review"], ["reject-at", "reject"]]) {
      $(id).addEventListener("change", () => this.#typed(id, name));
    }
    $("close-thresholds").addEventListener("click", () => $("thresholds").close());
    $("as-now").addEventListener("click", () => this.#set(this.now, this.facts.change === null));
    $("as-calibrated").addEventListener("click", () => this.#set(this.calibrated, true));
    $("apply").addEventListener("click", () => this.#confirm());
    $("confirm-cancel").addEventListener("click", () => $("confirm").close());
    $("confirm-form").addEventListener("submit", (event) => this.#apply(event));
  }

  async open(model) {
    await this.#load(model);
    if (!$("thresholds").open) $("thresholds").showModal();
  }

  async #load(model) {
    const path = `/v1/models/${encodeURIComponent(model)}`;
    const [facts, scores] = await Promise.all([
      get(`${path}/thresholds`),
      get(`${path}/scores`, { last: LAST }),
    ]);
    this.path = path;
    this.facts = facts;
    this.scores = scores.scores.map(([, score]) => score);
    this.now = values(facts.in_force);
    this.calibrated = values(facts.calibrated);
    setText($("thresholds-title"), `Thresholds of ${model}`);
    setText($("thresholds-base"), this.#base());
    setText($("legend-parts"), `last ${plural(this.scores.length, "part")}`);
    setText($("legend-good"), `${plural(facts.good, "good image")} of the calibration`);
    setText($("thresholds-problem"), "");
    this.#changes();
    this.histogram.show(this.scores, scores.good, this.now);
    for (const id of ["review-at", "reject-at"]) $(id).step = this.histogram.step;
    this.#set(this.now, facts.change === null);
  }

  #base() {
    const last = this.facts.changes[0];
    const { review, reject } = this.now;
    const values = `REVIEW above ${number(review)}, NG above ${number(reject)}`;
    if (this.facts.change === null || !last) return `In force: ${values}, as calibrated.`;
    return `In force: ${values}, by ${last.person}, ${clock(last.time)}: ${last.reason}`;
  }

  #changes() {
    const items = this.facts.changes.map((change) => {
      const what =
        change.review === null
          ? "back to calibrated"
          : `REVIEW above ${number(change.review)}, NG above ${number(change.reject)}`;
      return make("li", {}, `${clock(change.time)}, ${change.person}: ${what}. ${change.reason}`);
    });
    $("changes").replaceChildren(...(items.length ? items : [make("li", {}, "None.")]));
  }

  // Values that the histogram gives are rounded to its step.
  #rounded(value) {
    const { step } = this.histogram;
    return Number((Math.round(value / step) * step).toPrecision(10));
  }

  #typed(id, name) {
    const value = $(id).valueAsNumber;
    if (Number.isFinite(value)) this.#moved(name, value);
    else $(id).value = this.wanted[name];
  }

  // A line stops at the other one.
  #moved(name, value) {
    const { review, reject } = this.wanted;
    const wanted =
      name === "review"
        ? { review: Math.min(value, reject), reject }
        : { review, reject: Math.max(value, review) };
    this.#set(wanted, false);
  }

  #set(wanted, calibrated) {
    this.wanted = wanted;
    this.isCalibrated = calibrated;
    this.histogram.move(wanted);
    $("review-at").value = Number(wanted.review.toPrecision(8));
    $("reject-at").value = Number(wanted.reject.toPrecision(8));
    const same = wanted.review === this.now.review && wanted.reject === this.now.reject;
    $("apply").disabled = same && calibrated === (this.facts.change === null);
    this.#say(this.#changedNow());
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(), SETTLED);
  }

  // The same rule as the server's, at once; the server's answer follows.
  #changedNow() {
    const to = { OK: 0, REVIEW: 0, NG: 0 };
    let changed = 0;
    for (const score of this.scores) {
      const after = verdict(score, this.wanted);
      if (after === verdict(score, this.now)) continue;
      to[after] += 1;
      changed += 1;
    }
    return { parts: this.scores.length, changed, to };
  }

  #say({ parts, changed, to }) {
    const kinds = ["NG", "REVIEW", "OK"].filter((name) => to[name]);
    const where = kinds.map((name) => `${count(to[name])} to ${name}`).join(", ");
    const would = `${count(changed)} of the last ${plural(parts, "part")} would change`;
    setText($("effect"), changed ? `${would}: ${where}.` : `${would}.`);
  }

  #body() {
    const { review, reject } = this.wanted;
    return this.isCalibrated ? { review: null, reject: null } : { review, reject };
  }

  async #ask() {
    const asked = this.wanted;
    try {
      const answer = await post(`${this.path}/thresholds/preview`, { ...this.#body(), last: LAST });
      if (asked !== this.wanted) return;
      setText($("thresholds-problem"), "");
      this.#say(answer);
      setText($("review-share"), expected(answer.thresholds.review, "REVIEW or NG"));
      setText($("reject-share"), expected(answer.thresholds.reject, "NG"));
      $("examples").replaceChildren(...answer.examples.slice(0, SHOWN).map(example));
    } catch (error) {
      if (asked === this.wanted) setText($("thresholds-problem"), error.message);
    }
  }

  #confirm() {
    const { review, reject } = this.wanted;
    const what = this.isCalibrated ? "Back to the calibrated thresholds: " : "";
    setText(
      $("confirm-values"),
      `${what}REVIEW above ${number(review)} (now ${number(this.now.review)}), ` +
        `NG above ${number(reject)} (now ${number(this.now.reject)}).`,
    );
    setText($("confirm-effect"), $("effect").textContent);
    setText($("confirm-problem"), "");
    $("confirm-person").value = person.get();
    $("confirm-reason").value = "";
    $("confirm").showModal();
  }

  async #apply(event) {
    event.preventDefault();
    const who = $("confirm-person").value.trim(), reason = $("confirm-reason").value.trim();
    if (!who || !reason) {
      setText($("confirm-problem"), "Write your name and the reason.");
      return;
    }
    person.set(who);
    const body = { ...this.#body(), person: who, reason, change_seen: this.facts.change };
    try {
      await post(`${this.path}/thresholds`, body);
      $("confirm").close();
      $("thresholds").close();
      this.onChanged();
    } catch (error) {
      setText($("confirm-problem"), `Nothing was changed. ${error.message}`);
      if (error.status === 409) this.#load(this.facts.model).catch(() => null);
    }
  }
}

const values = (pair) => ({ review: pair.review.threshold, reject: pair.reject.threshold });

// As `Thresholds.verdict`: a score at the threshold is still below it.
const verdict = (score, { review, reject }) =>
  !(score <= reject) ? "NG" : score <= review ? "OK" : "REVIEW";

const expected = ({ expected, bound }, what) =>
  `Expect ${share(expected)} of good parts to be ${what}; at most ${share(bound)}, 95 % sure.`;

function example(part) {
  const words = make("span", {}, part.before, " ", make("b", {}, `→ ${part.after}`));
  const row = { sequence: part.sequence, score: part.score, kept: true };
  const item = make("li", {}, thumb(row, 160), shape(part.after), words);
  item.dataset.verdict = part.after;
  item.title = `No. ${part.sequence}, score ${number(part.score)}`;
  return item;
}
