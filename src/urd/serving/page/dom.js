// Build and update nodes. Text goes in as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children);
  return node;
}

// Setting only what differs spares the browser work, and screen readers a repetition.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function setPairs(list, pairs) {
  const wanted = pairs.flatMap(([name, value]) => [["dt", name], ["dd", value]]);
  wanted.forEach(([tag, text], index) => {
    let node = list.children[index];
    if (!node || node.tagName.toLowerCase() !== tag) {
      const made = make(tag);
      if (node) node.replaceWith(made);
      else list.append(made);
      node = made;
    }
    setText(node, text);
  });
  while (list.children.length > wanted.length) list.lastChild.remove();
}

export function shape(verdict) {
  const use = draw("use", { href: `#shape-${verdict ?? "none"}` });
  return draw("svg", { class: "shape", "aria-hidden": "true" }, use);
}

export const nameOf = (row) =>
  row.part ?? (row.path ? row.path.split(/[\\/]/).at(-1) : `no. ${row.sequence}`);

export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 1 : size >= 1 ? 2 : 3);
}

export const count = (value) => value.toLocaleString("en");

export function share(value) {
  const percent = 100 * value;
  return `${percent.toFixed(percent > 0 && percent < 10 ? 1 : 0)} %`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en-CA", { dateStyle: "short" });

export function clock(text) {
  const time = new Date(text);
  const today = time.toDateString() === new Date().toDateString();
  return today ? CLOCK.format(time) : `${DAY.format(time)} ${CLOCK.format(time)}`;
}

export function ago(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;

// The name of the person at the tablet, for the next form. A browser may forbid the storage.
export const person = {
  get() {
    try {
      return localStorage.getItem("urd-person") ?? "";
    } catch {
      return "";
    }
  },
  set(name) {
    try {
      localStorage.setItem("urd-person", name);
    } catch {
      // then the person types it again
    }
  },
};
