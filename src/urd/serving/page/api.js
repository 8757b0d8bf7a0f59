// Ask the server. Every failure is one of three: no answer, no token, or refused with a reason.

const PATIENCE = 3000; // ms; a server that takes longer counts as absent
const PATIENCE_WRITE = 10000; // the store may wait for another writer

export class NoAnswer extends Error {}
export class NeedsLogin extends Error {}
export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

export function get(path, values = {}) {
  const given = Object.entries(values).filter(([, v]) => v !== null && v !== undefined && v !== "");
  const query = new URLSearchParams(given).toString();
  return ask(query ? `${path}?${query}` : path, { signal: AbortSignal.timeout(PATIENCE) });
}

export const post = (path, body) =>
  ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE_WRITE),
  });

async function ask(path, options) {
  let answer, text;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
    text = await answer.text();
  } catch {
    throw new NoAnswer("The server does not answer.");
  }
  if (answer.status === 401 && path !== "/login") throw new NeedsLogin("Log in first.");
  const content = parsed(text);
  if (!answer.ok) {
    throw new Refused(answer.status, content?.error ?? `The server answers ${answer.status}.`);
  }
  if (content === null && text) throw new NoAnswer("The answer is not from urd.");
  return content;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export const imageOf = (sequence, side) => `/v1/judgements/${sequence}/image?side=${side}`;
export const heatOf = (sequence, side) =>
  `/v1/judgements/${sequence}/heat${side ? `?side=${side}` : ""}`;
