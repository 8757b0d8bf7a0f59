// The list of parts: live, newest first, or the results of a search. It is updated by key, so that
// a tile never flickers, and it waits with new parts while a person looks at one.

import { get, heatOf, imageOf } from "/page/api.js";
import { $, clock, count, make, nameOf, number, setAttribute, setText, shape } from "/page/dom.js";

const PAGE = 60; // rows of one request
const MOST = 240; // tiles in the live list
const THUMB = 240; // pixels

export class Parts {
  constructor({ onPick, onNew }) {
    this.rows = []; // shown, the newest first
    this.waiting = []; // arrived while the list must not move
    this.gap = false; // more have come than wait
    this.missed = false; // there may be more between the last answer and the one before
    this.newest = 0;
    this.wanted = null; // of a search; null: live
    this.picked = null;
    this.held = false;
    this.pressed = false;
    this.tiles = new Map();
    this.onPick = onPick;
    this.onNew = onNew;
    $("tiles").addEventListener("click", (event) => this.#clicked(event));
    $("tiles").addEventListener("pointerdown", () => (this.pressed = true));
    addEventListener("pointerup", () => setTimeout(() => (this.pressed = false), 100));
    addEventListener("pointercancel", () => (this.pressed = false));
    $("scroller").addEventListener("scroll", () => this.#atTop() && this.flow());
    $("more-parts").addEventListener("click", () => this.older());
  }

  get live() {
    return this.wanted === null;
  }

  async load() {
    const { judgements } = await get("/v1/judgements", { limit: PAGE, ...this.wanted });
    this.rows = judgements;
    this.waiting = [];
    this.gap = false;
    this.complete = judgements.length < PAGE;
    if (this.live) this.newest = judgements[0]?.sequence ?? 0;
    this.#show();
    return judgements;
  }

  // New parts since the last call, the newest first.
  async poll() {
    const { judgements } = await get("/v1/judgements", { after: this.newest, limit: PAGE });
    if (!judgements.length) return [];
    const gap = judgements.length === PAGE; // there may be more between: begin anew
    this.missed = gap;
    this.newest = judgements[0].sequence;
    const waiting = gap ? judgements : [...judgements, ...this.waiting];
    this.waiting = waiting.slice(0, MOST);
    this.gap = this.gap || gap || waiting.length > MOST;
    this.flow();
    return judgements;
  }

  // Let the parts that wait into the list, unless a person looks at it.
  flow() {
    if (this.live && !this.#waits() && this.waiting.length) {
      const known = this.gap ? [] : this.rows;
      this.rows = [...this.waiting, ...known].slice(0, MOST);
      this.complete = this.complete && !this.gap && this.rows.length < MOST;
      this.waiting = [];
      this.gap = false;
    }
    this.#show();
  }

  hold(held) {
    this.held = held;
    this.flow();
  }

  toTop() {
    $("scroller").scrollTop = 0;
    this.flow();
  }

  async search(wanted) {
    this.wanted = wanted;
    const found = await this.load();
    $("scroller").scrollTop = 0;
    return found;
  }

  async older() {
    const before = this.rows.at(-1)?.sequence;
    const { judgements } = await get("/v1/judgements", { limit: PAGE, ...this.wanted, before });
    this.rows = [...this.rows, ...judgements];
    this.complete = judgements.length < PAGE;
    this.#show();
    return judgements;
  }

  // The next part in a direction: 1 is older, -1 is newer. `null`: there is none.
  async step(row, direction) {
    const place = this.rows.findIndex((other) => other.sequence === row.sequence);
    if (place >= 0 && this.rows[place + direction]) return this.rows[place + direction];
    if (direction > 0) {
      if (place >= 0) return (await this.older())[0] ?? null;
      const older = { ...this.wanted, before: row.sequence, limit: 1 };
      return (await get("/v1/judgements", older)).judgements[0] ?? null;
    }
    const near = { ...this.wanted, after: row.sequence, before: row.sequence + PAGE, limit: PAGE };
    return (await get("/v1/judgements", near)).judgements.at(-1) ?? null;
  }

  pick(sequence) {
    this.picked = sequence;
    this.#show();
    this.tiles.get(sequence)?.scrollIntoView({ block: "nearest" });
  }

  update(row) {
    const place = this.rows.findIndex((other) => other.sequence === row.sequence);
    if (place >= 0) this.rows[place] = row;
    this.#show();
  }

  #atTop() {
    return $("scroller").scrollTop < 8;
  }

  #waits() {
    return this.held || this.pressed || !this.#atTop();
  }

  #clicked(event) {
    const tile = event.target.closest("[data-sequence]");
    const row = tile && this.rows.find((r) => r.sequence === Number(tile.dataset.sequence));
    if (row) this.onPick(row);
  }

  #show() {
    const list = $("tiles");
    this.rows.forEach((row, index) => {
      let item = this.tiles.get(row.sequence);
      if (!item) this.tiles.set(row.sequence, (item = newTile(row)));
      updateTile(item, row, row.sequence === this.picked);
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    });
    while (list.children.length > this.rows.length) {
      this.tiles.delete(Number(list.lastChild.dataset.key));
      list.lastChild.remove();
    }
    setText($("parts-title"), this.live ? "Latest parts" : this.#found());
    setText($("no-parts"), this.live ? "No part has come yet." : "No part fits this search.");
    $("no-parts").hidden = this.rows.length > 0;
    $("more-parts").hidden = this.complete !== false;
    this.onNew(this.waiting.length, this.gap);
  }

  #found() {
    const more = this.complete ? "" : " or more";
    return `Search: ${count(this.rows.length)}${more} found`;
  }
}

function newTile(row) {
  const button = make("button", { type: "button", class: "tile", "data-sequence": row.sequence });
  button.dataset.verdict = row.verdict ?? "none";
  button.append(
    thumb(row),
    make("span", { class: "verdict" }, shape(row.verdict), make("b", {}, row.verdict ?? "–")),
    make("span", { class: "part" }, nameOf(row)),
    make("span", { class: "small" }, make("span", {}), make("span", {}, number(row.score))),
    make("span", { class: "done" }),
  );
  return make("li", { "data-key": row.sequence }, button);
}

function updateTile(item, row, picked) {
  const button = item.firstChild;
  const time = clock(row.time);
  const decided = row.reviewed ? `${row.reviewed.decision}ed` : "";
  setText(button.children[3].firstChild, time);
  setText(button.children[4], decided);
  setAttribute(button, "aria-current", picked ? "true" : null);
  const words = [row.verdict ?? "no verdict", `part ${nameOf(row)}`, time];
  if (row.score !== null) words.push(`score ${number(row.score)}`);
  setAttribute(button, "aria-label", [...words, decided].filter(Boolean).join(", "));
}

// A small picture with heat over it, at the proportions of the image.
export function thumb(row, side = THUMB) {
  const box = make("span", { class: "thumb" });
  if (!row.kept) {
    box.append(make("span", { class: "absent" }, "not kept"));
    return box;
  }
  const inner = make("span", { class: "inner" });
  const fit = (width, height) => {
    inner.style.aspectRatio = `${width} / ${height}`;
    inner.classList.toggle("tall", width / height < 4 / 3);
  };
  if (row.width && row.height) fit(row.width, row.height);
  const image = make("img", { src: imageOf(row.sequence, side), alt: "", loading: "lazy" });
  image.addEventListener("load", () => fit(image.naturalWidth, image.naturalHeight));
  image.addEventListener("error", () => {
    box.replaceChildren(make("span", { class: "absent" }, "no image"));
  });
  inner.append(image);
  if (row.score !== null) {
    const heat = { src: heatOf(row.sequence, side), alt: "", loading: "lazy", class: "heat" };
    const layer = make("img", heat);
    layer.addEventListener("error", () => layer.remove());
    inner.append(layer);
  }
  box.append(inner);
  return box;
}
