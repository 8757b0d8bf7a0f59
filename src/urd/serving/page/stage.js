// One part in full: the newest while live, or the one that a person holds.

import { get, heatOf, imageOf, post } from "/page/api.js";
import {
  $, ago, clock, draw, make, nameOf, number, person, setAttribute, setPairs, setText,
} from "/page/dom.js";

const SIDES = [600, 1000, 1600, 2000];
const TOGETHER = 400; // ms that the text waits for its picture, so that both change at once
const LAYERS = ["image", "heat", "outlines"];

export class Stage {
  constructor({ onHold, onStep, onReviewed }) {
    this.row = null; // on the stage
    this.target = null; // on the stage, or about to be
    this.held = false;
    this.turn = 0;
    this.onReviewed = onReviewed;
    for (const layer of LAYERS) {
      $(`layer-${layer}`).addEventListener("click", () => this.toggle(layer));
    }
    $("hold").addEventListener("click", () => onHold(!this.held));
    $("older").addEventListener("click", () => onStep(1));
    $("newer").addEventListener("click", () => onStep(-1));
    $("decision").addEventListener("submit", (event) => this.#decide(event));
  }

  async show(row, held) {
    const turn = ++this.turn;
    this.held = held; // at once, so that no new part comes between
    this.target = row;
    const side = this.#side();
    if (row.kept && this.row?.sequence !== row.sequence) {
      await Promise.race([loaded(row, side), new Promise((done) => setTimeout(done, TOGETHER))]);
      if (turn !== this.turn) return false; // another part has come meanwhile
    }
    const another = this.row?.sequence !== row.sequence;
    this.row = row;
    this.#words(row);
    if (another) {
      this.#picture(row, side);
      setText($("decision-problem"), "");
      $("decision-reason").value = "";
    }
    this.#mode();
    return true;
  }

  // Show what has changed in the row on the stage; a part that is about to come goes first.
  refresh(row) {
    if (this.row?.sequence !== row.sequence) return;
    this.row = row;
    this.#words(row);
    this.#mode();
  }

  toggle(layer) {
    const button = $(`layer-${layer}`);
    const shown = button.getAttribute("aria-pressed") !== "true";
    setAttribute(button, "aria-pressed", shown);
    $(`picture-${layer}`).toggleAttribute("hidden", !shown);
  }

  setNew(count, more) {
    this.newParts = count ? `${count}${more ? "+" : ""} new` : "";
    this.#mode();
  }

  #side() {
    const box = $("picture").parentElement.getBoundingClientRect();
    const pixels = Math.max(box.width, box.height) * devicePixelRatio;
    return SIDES.find((side) => side >= pixels) ?? SIDES.at(-1);
  }

  #words(row) {
    const verdict = row.verdict ?? "none";
    setAttribute($("stage"), "data-verdict", verdict);
    setAttribute($("stage-shape"), "href", `#shape-${verdict}`);
    setText($("stage-verdict"), row.verdict ?? "–");
    setText($("stage-part"), nameOf(row));
    setText($("stage-time"), clock(row.time));
    setText($("stage-score"), number(row.score));
    setText($("stage-review"), row.thresholds ? `REVIEW above ${number(row.thresholds.review)}` : "");
    setText($("stage-reject"), row.thresholds ? `NG above ${number(row.thresholds.reject)}` : "");
    gauge($("gauge"), row);
    setPairs($("facts"), facts(row));
    const open = ["REVIEW", "NG"].includes(row.verdict);
    const review = row.reviewed;
    $("decided").hidden = !review;
    if (review) {
      const why = review.reason ? `: ${review.reason}` : "";
      const said = review.decision === "accept" ? "Accepted" : "Rejected";
      setText($("decided"), `${said} by ${review.person}, ${clock(review.time)}${why}`);
      setAttribute($("decided"), "data-decision", review.decision);
    }
    this.open = open;
  }

  #mode() {
    const live = !this.held;
    setText($("stage-mode"), live ? "Live" : "Held");
    setAttribute($("stage"), "data-mode", live ? "live" : "held");
    const back = this.newParts ? `Back to live (${this.newParts})` : "Back to live";
    setText($("hold"), live ? "Hold this part" : back);
    $("newer").disabled = live;
    $("hold").classList.toggle("primary", !live);
    $("decision").hidden = live || !this.open;
    $("hint").hidden = !live || !this.open || Boolean(this.row?.reviewed);
    if (!live && !$("decision-person").value) $("decision-person").value = person.get();
  }

  async #picture(row, side) {
    const url = imageOf(row.sequence, side);
    $("picture").toggleAttribute("hidden", true);
    setText($("no-picture"), "");
    for (const layer of ["picture-image", "picture-heat"]) $(layer).removeAttribute("href");
    $("picture-outlines").replaceChildren();
    const size = row.width ? [row.width, row.height] : await sizeOf(url); // an ERROR has no size
    if (this.row.sequence !== row.sequence) return;
    if (!row.kept || !size) {
      this.#why(row, side);
      return;
    }
    const [width, height] = size;
    setAttribute($("picture"), "viewBox", `0 0 ${width} ${height}`);
    setAttribute($("picture"), "aria-label", `Image of part ${nameOf(row)}`);
    this.#layer("picture-image", width, height, url);
    if (row.score !== null) this.#layer("picture-heat", width, height, heatOf(row.sequence));
    $("picture-image").onerror = () => this.row.sequence === row.sequence && this.#why(row, side);
    this.#outlines(row.defects);
    $("picture").toggleAttribute("hidden", false);
  }

  #layer(id, width, height, href) {
    for (const [name, value] of Object.entries({ x: 0, y: 0, width, height, href })) {
      setAttribute($(id), name, value);
    }
  }

  #outlines(defects) {
    const paths = defects
      .filter(({ contour }) => contour?.length)
      .map(({ contour }) => `M${contour.map(([x, y]) => `${x} ${y}`).join("L")}Z`);
    for (const d of paths) {
      $("picture-outlines").append(
        draw("path", { d, class: "under" }),
        draw("path", { d, class: "over" }),
      );
    }
  }

  // Say why there is no image, in the server's words.
  async #why(row, side) {
    let reason = "This image cannot be shown.";
    try {
      await get(imageOf(row.sequence, side));
    } catch (error) {
      reason = error.status ? error.message : reason;
    }
    if (this.row.sequence !== row.sequence) return;
    $("picture").toggleAttribute("hidden", true);
    setText($("no-picture"), reason[0].toUpperCase() + reason.slice(1) + ".");
  }

  async #decide(event) {
    event.preventDefault();
    const name = $("decision-person").value.trim();
    const row = this.row;
    if (!name) {
      setText($("decision-problem"), "Write your name first.");
      $("decision-person").focus();
      return;
    }
    const wanted = {
      decision: event.submitter?.value === "accept" ? "accept" : "reject",
      person: name,
      reason: $("decision-reason").value.trim(),
    };
    person.set(name);
    setText($("decision-problem"), "");
    try {
      const stored = await post(`/v1/judgements/${row.sequence}/review`, wanted);
      this.onReviewed(stored);
      $("decision-reason").value = "";
    } catch (error) {
      setText($("decision-problem"), `Not stored. ${error.message}`);
    }
  }
}

async function sizeOf(url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return [image.naturalWidth, image.naturalHeight];
  } catch {
    return null;
  }
}

function loaded(row, side) {
  const load = (source) => {
    const image = new Image();
    image.src = source;
    return image.decode().catch(() => null);
  };
  return Promise.all([load(imageOf(row.sequence, side)), load(heatOf(row.sequence))]);
}

function facts(row) {
  const limits = row.thresholds;
  const pairs = [];
  if (row.error) pairs.push(["Error", row.error]);
  if (limits) {
    pairs.push(["Thresholds", limits.change ? `change no. ${limits.change}` : "as calibrated"]);
  }
  if (row.defects.length) pairs.push(["Defects", String(row.defects.length)]);
  if (row.camera.length) pairs.push(["Camera", row.camera.join("; ")]);
  pairs.push(["Model", `${row.model}, ${row.model_sha256.slice(0, 8)}`]);
  pairs.push(["Judged at", `${clock(row.time)}${took(row.milliseconds)}`]);
  pairs.push(["Number", String(row.sequence)]);
  if (row.part && row.path) pairs.push(["File", row.path.split(/[\\/]/).at(-1)]);
  return pairs;
}

const took = (ms) => (ms > 0 ? `, in ${ms < 1000 ? `${Math.round(ms)} ms` : ago(ms / 1000)}` : "");

// A scale with the three zones and where the score lies.
function gauge(box, row) {
  const limits = row.thresholds;
  const known = limits && row.score !== null;
  box.hidden = !known;
  if (!known) return;
  if (!box.firstChild) {
    box.append(
      ...["OK", "REVIEW", "NG"].map((zone) => make("span", { class: `zone ${zone}` })),
      make("span", { class: "mark" }),
    );
  }
  const span = Math.max(limits.reject - limits.review, 0.35 * Math.abs(limits.reject), 1e-6);
  const low = Math.min(limits.review - 1.5 * span, row.score);
  const high = Math.max(limits.reject + 1.5 * span, row.score);
  const place = (value) => (100 * (value - low)) / (high - low);
  const edges = [0, place(limits.review), place(limits.reject), 100];
  [...box.children].slice(0, 3).forEach((zone, index) => {
    zone.style.left = `${edges[index]}%`;
    zone.style.width = `${edges[index + 1] - edges[index]}%`;
  });
  box.lastChild.style.left = `${place(row.score)}%`;
}
