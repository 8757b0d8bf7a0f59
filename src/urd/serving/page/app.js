// The operator's page: asks the server each second, and says at once when it does not answer.

import { get, NeedsLogin, NoAnswer, post, Refused } from "/page/api.js";
import { Chart } from "/page/chart.js";
import { $, ago, clock, count, make, nameOf, plural, setAttribute, setText, shape, share } from "/page/dom.js";
import { Parts } from "/page/parts.js";
import { Stage } from "/page/stage.js";
import { ThresholdDialog } from "/page/thresholds.js";

const EVERY = 1000; // ms between two questions for new parts
const STATUS_EVERY = 3000;
const COUNTS_EVERY = 10000;
const QUIET = 60; // seconds without a part, after which the line counts as standing
const SILENT = 10000; // ms without any answer, whatever the reason
const NOTICE = 8000; // ms

const line = { status: null, asked: {}, answered: 0, lost: null, model: null };
let started = false;

const parts = new Parts({ onPick: (row) => hold(row).catch(refused), onNew: showNew });
const stage = new Stage({
  onHold,
  onStep: (direction) => step(direction).catch(refused),
  onReviewed: reviewed,
});
const chart = new Chart({ onPick: (sequence) => open(sequence).catch(refused) });
const dialog = new ThresholdDialog({ onChanged: () => refreshLine().catch(refused) });

async function tick() {
  try {
    if (!started) await start();
    else await poll();
    answered();
  } catch (error) {
    failed(error);
  }
  setTimeout(tick, EVERY);
}

async function start() {
  await askStatus();
  const rows = await parts.load();
  await Promise.all([askCounts(), chooseModel()]);
  started = true;
  document.body.classList.remove("starting");
  if (rows.length) await follow(rows[0]);
}

async function poll() {
  const fresh = await parts.poll();
  if (fresh.length) {
    if (parts.missed) await chooseModel();
    else chart.add(fresh, modelNow()?.model_sha256);
    if (!stage.held) follow(fresh[0]).catch(failed);
  }
  if (fresh.length || due("counts", COUNTS_EVERY)) await askCounts();
  if (fresh.length || due("status", STATUS_EVERY)) await refreshLine();
}

const due = (what, every) => performance.now() - (line.asked[what] ?? -Infinity) > every;

async function refreshLine() {
  const before = modelNow();
  await askStatus();
  const now = modelNow();
  const other = ["model_sha256", "change", "review", "reject"].some((k) => before?.[k] !== now?.[k]);
  if (other) await chooseModel();
  const newest = line.status.newest?.sequence ?? 0;
  if (line.status.store.ok && newest < parts.newest) location.reload(); // it is another store
}

async function askStatus() {
  line.status = await get("/v1/status");
  line.asked.status = performance.now();
  setText($("line"), line.status.line);
  document.title = line.status.line;
  problems();
}

async function askCounts() {
  const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
  const { total, counts } = await get("/v1/counts", { since: midnight });
  line.asked.counts = performance.now();
  const list = $("counts");
  for (const name of ["OK", "REVIEW", "NG", "ERROR"]) {
    const n = counts[name] ?? 0;
    let item = list.querySelector(`[data-verdict="${name}"]`);
    if (!item) {
      item = make("div", { "data-verdict": name }, make("dt", {}, shape(name), name));
      item.append(make("dd", {}, make("b"), make("span")));
      list.append(item);
    }
    setText(item.querySelector("b"), count(n));
    setText(item.querySelector("dd span"), total ? share(n / total) : "");
  }
}

// The live view

async function follow(row) {
  if (!(await stage.show(row, false))) return;
  parts.pick(null);
  chart.pick(row.sequence);
  const error = row.error ? ` ${row.error}` : "";
  setText($("announcer"), `${row.verdict ?? "No verdict"}, part ${nameOf(row)}.${error}`);
}

async function hold(row) {
  parts.hold(true);
  if (!(await stage.show(row, true))) return;
  parts.pick(row.sequence);
  chart.pick(row.sequence);
  const fresh = await get(`/v1/judgements/${row.sequence}`); // another person may have decided
  parts.update(fresh);
  stage.refresh(fresh);
}

async function release() {
  stage.held = false;
  if (!parts.live) await endSearch();
  parts.hold(false);
  parts.toTop();
  if (parts.rows.length) await follow(parts.rows[0]);
}

function onHold(wanted) {
  if (!wanted) release().catch(refused);
  else if (stage.row) hold(stage.row).catch(refused);
}

async function step(direction) {
  const row = stage.target && (await parts.step(stage.target, direction));
  if (row) await hold(row);
}

const open = async (sequence) => hold(await get(`/v1/judgements/${sequence}`));

function reviewed(row) {
  parts.update(row);
  stage.refresh(row);
}

function showNew(n, more) {
  $("new-parts").hidden = !n || !parts.live;
  setText($("new-parts"), `${n}${more ? "+" : ""} new`);
  stage.setNew(n, more);
}

// Models

const modelNow = () => line.status?.models.find((model) => model.name === line.model);

async function chooseModel() {
  const names = line.status.models.map((model) => model.name);
  if (!names.includes(line.model)) line.model = names[0] ?? null;
  const list = $("model");
  if ([...list.options].map((option) => option.value).join("\n") !== names.join("\n")) {
    list.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  }
  list.value = line.model;
  $("model-choice").hidden = names.length < 2;
  $("open-thresholds").disabled = !line.model;
  if (line.model) await chart.load(line.model);
}

$("model").addEventListener("change", () => {
  line.model = $("model").value;
  chart.load(line.model).catch(refused);
});
$("open-thresholds").addEventListener("click", () => dialog.open(line.model).catch(refused));

// Search

$("open-search").addEventListener("click", () => showSearch($("search").hidden));
$("end-search").addEventListener("click", () => endSearch().catch(refused));
$("new-parts").addEventListener("click", () => release().catch(refused));
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const seconds = (id) => ($(id).value ? new Date($(id).value).getTime() / 1000 : null);
  parts
    .search({
      part: $("search-part").value.trim(),
      verdict: $("search-verdict").value,
      since: seconds("search-since"),
      until: seconds("search-until"),
    })
    .catch(refused);
});

function showSearch(shown) {
  $("search").hidden = !shown;
  setAttribute($("open-search"), "aria-expanded", shown);
  if (shown) $("search-part").focus();
}

async function endSearch() {
  $("search").reset();
  showSearch(false);
  if (!parts.live) await parts.search(null);
}

// Keys

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") step(1).catch(refused);
  else if (event.key === "ArrowRight") step(-1).catch(refused);
  else if (event.key === "Escape" && stage.held) onHold(false);
  else return;
  event.preventDefault();
});

// Whether the server answers, and what is wrong with the line

function answered() {
  line.answered = performance.now();
  line.lost = null;
  document.body.classList.remove("lost");
  $("lost").hidden = true;
  state();
}

// The page cannot show the line: say it as large as a verdict.
function failed(error) {
  if (error instanceof NeedsLogin) {
    document.body.classList.add("lost");
    if (!$("login").open) $("login").showModal();
    return;
  }
  line.lost ??= new Date().toISOString();
  document.body.classList.add("lost");
  const titles = [[NoAnswer, "The server does not answer."], [Refused, "The server has a problem."]];
  const [, title] = titles.find(([kind]) => error instanceof kind) ?? [];
  setText($("lost-title"), title ?? "This page has a problem: load it again.");
  const why = error instanceof NoAnswer ? "" : `${error.message}. `;
  setText($("lost-text"), `${why}What you see is old, from before ${clock(line.lost)}.`);
  $("lost").hidden = false;
  state();
}

// What a person asked for was refused; the line itself goes on.
function refused(error) {
  if (!(error instanceof Refused)) return failed(error);
  setText($("notice"), error.message);
  $("notice").hidden = false;
  clearTimeout(line.notice);
  line.notice = setTimeout(() => ($("notice").hidden = true), NOTICE);
}

function problems() {
  const { store, outbox, camera, receivers } = line.status;
  const found = [];
  if (!store.ok) found.push(["bad", `The store has a problem: ${store.problem}`]);
  for (const [name, { waiting, parked, error }] of Object.entries(outbox)) {
    if (parked) found.push(["bad", `${name} refused ${plural(parked, "event")}: ${error ?? "no reason"}`]);
    else if (error) found.push(["warn", `${name}: ${plural(waiting, "event")} not sent yet: ${error}`]);
  }
  for (const { name, error } of receivers) {
    if (error && !outbox[name]) found.push(["bad", `${name}: ${error}`]);
  }
  if (camera) found.push(["warn", `Camera, part no. ${camera.sequence}: ${camera.messages.join("; ")}`]);
  const key = JSON.stringify(found);
  if (key === line.problems) return;
  line.problems = key;
  $("problems").hidden = !found.length;
  $("problems").replaceChildren(...found.map(([kind, text]) => make("p", { class: kind }, text)));
}

function state() {
  const silent = started && performance.now() - line.answered > SILENT;
  if (silent && !line.lost && !$("login").open) return failed(new NoAnswer());
  const { kind, text } = stateNow();
  setAttribute($("state"), "data-state", kind);
  setText($("state-text"), text);
}

function stateNow() {
  if (line.lost) return { kind: "lost", text: "No contact" };
  if (!line.status) return { kind: "wait", text: "Connecting" };
  if (!line.status.store.ok) return { kind: "lost", text: "Store problem" };
  const { newest } = line.status;
  if (!newest) return { kind: "wait", text: "No part yet" };
  const age = newest.age_seconds + (performance.now() - line.asked.status) / 1000;
  const text = `newest part ${ago(age)} ago`;
  return age < QUIET ? { kind: "runs", text: `Running, ${text}` } : { kind: "wait", text: `Standing, ${text}` };
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("/login", { token: $("token").value });
    $("token").value = "";
    setText($("login-problem"), "");
    $("login").close();
  } catch (error) {
    setText($("login-problem"), error.message);
  }
});

addEventListener("error", (event) => failed(event.error ?? new Error(event.message)));
addEventListener("unhandledrejection", (event) => failed(event.reason));
document.addEventListener("visibilitychange", state);
setInterval(state, EVERY);
tick();
