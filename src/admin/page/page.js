// Shows what the admin API says, read-only. The key stays in this tab: it is read from the form, or from the part of the
// address behind `#key=`, which a browser sends to nobody.
"use strict";

const EVERY_MS = 5000;
const HOUR_MS = 3600 * 1000;
const at = id => document.getElementById(id);

function takeKey() {
  const told = new URLSearchParams(location.hash.slice(1)).get("key");
  if (told) {
    sessionStorage.setItem("key", told);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("key");
}

async function ask(path) {
  const answer = await fetch(path, { headers: { authorization: `Bearer ${sessionStorage.getItem("key")}` } });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error?.message ?? answer.statusText), { status: answer.status });
  return body;
}

// Every text goes in as text: nothing that a client chose is ever read as markup.
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function fill(id, rows, columns) {
  const body = at(id).tBodies[0];
  body.replaceChildren(...rows.map(cells => {
    const row = element("tr");
    row.append(...cells.map(cell => {
      const data = element("td");
      data.append(cell instanceof Node ? cell : String(cell));
      return data;
    }));
    return row;
  }));
  if (!rows.length) {
    const row = element("tr"), cell = element("td", "none", "empty");
    cell.colSpan = columns;
    row.append(cell);
    body.append(row);
  }
}

const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const dollars = nanos => nanos == null ? "–" : `$${(nanos / 1e9).toFixed(4)}`;

function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function state(account) {
  const shown = element("span", undefined);
  const left = account.seconds_left == null ? "" : ` for ${duration(account.seconds_left)}`;
  shown.append(element("span", account.state + left, `state ${account.state}`));
  if (account.reason) shown.append(element("span", account.reason, "why"));
  for (const model of account.models_away ?? []) {
    shown.append(element("span", `${model.model}: ${model.state}`, "why"));
  }
  return shown;
}

function windows(account) {
  const shown = element("div");
  for (const window of account.windows ?? []) {
    const row = element("div", undefined, "window"), bar = element("meter");
    bar.value = window.left; bar.low = 0.2; bar.high = 0.5; bar.optimum = 1;
    bar.title = `${window.remaining ?? "?"} of ${window.limit ?? "?"}`;
    row.append(element("span", window.name), bar, element("span", `${Math.round(window.left * 100)} %`));
    shown.append(row);
  }
  return shown.childElementCount ? shown : element("span", "no limits known", "empty");
}

function bars(id, hours, series) {
  const svg = at(id), space = "http://www.w3.org/2000/svg";
  const most = Math.max(1, ...hours.map(hour => series.reduce((sum, name) => sum + hour[name], 0)));
  const make = (name, attributes, text) => {
    const made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const parts = [make("text", { x: 0, y: 9 }, short.format(most))];
  hours.forEach((hour, at) => {
    let base = 108;
    series.forEach((name, index) => {
      const height = 95 * hour[name] / most;
      base -= height;
      const bar = make("rect", { x: 4 + at * 19.8, y: base, width: 16, height, class: index ? "two" : "one" });
      bar.append(make("title", {}, `${new Date(hour.start_ms).toLocaleString()}: ${hour[name]} ${name}`));
      parts.push(bar);
    });
    if (at % 6 === 0) parts.push(make("text", { x: 4 + at * 19.8, y: 118 }, new Date(hour.start_ms).toTimeString().slice(0, 5)));
  });
  svg.replaceChildren(...parts);
}

// The ledger has no rows for hours in which nothing happened.
function lastDay(rows) {
  const first = Math.floor(Date.now() / HOUR_MS) - 23;
  const known = new Map(rows.map(row => [Math.floor(row.start_ms / HOUR_MS), row]));
  return Array.from({ length: 24 }, (_, n) => {
    const row = known.get(first + n);
    return {
      start_ms: (first + n) * HOUR_MS, requests: row?.requests ?? 0,
      input: row ? row.input + row.cache_read + row.cache_write : 0, output: row?.output ?? 0,
    };
  });
}

function totals(rows, name) {
  return rows.map(row => [row[name] || "–", short.format(row.requests),
    short.format(row.input + row.cache_read + row.cache_write + row.output), dollars(row.cost_nanos)]);
}

async function show() {
  const from = Date.now() - 24 * HOUR_MS;
  const [status, accounts, hours, users, models, failures] = await Promise.all([
    ask("api/v1/status"), ask("api/v1/accounts"), ask(`api/v1/usage?by=hour&from_ms=${from}&limit=100`),
    ask(`api/v1/usage?by=user&from_ms=${from}&limit=10`), ask(`api/v1/usage?by=model&from_ms=${from}&limit=10`),
    ask("api/v1/failures?limit=20"),
  ]);
  const health = status.draining ? "draining" : status.ready ? "ready" : "no account can serve";
  at("summary").textContent = `${status.version} · ${health} · ${status.requests} in flight · ${status.waiting} waiting`;
  fill("accounts", accounts.accounts.map(account => [account.name, account.provider, state(account),
    account.concurrency ? `${account.in_flight} of ${account.concurrency}` : account.in_flight, windows(account)]), 5);
  const day = lastDay(hours.rows);
  bars("requests", day, ["requests"]);
  bars("tokens", day, ["input", "output"]);
  fill("users", totals(users.rows, "user"), 4);
  fill("models", totals(models.rows, "model"), 4);
  fill("failures", failures.failures.map(failure => [new Date(failure.at_ms).toLocaleTimeString(), failure.account,
    failure.class, failure.reason, failure.request]), 5);
  at("main").hidden = false;
  at("login").hidden = true;
}

async function turn() {
  try {
    if (!takeKey()) throw Object.assign(new Error("The admin key is needed."), { status: 401 });
    await show();
  } catch (fault) {
    at("summary").textContent = fault.message;
    if (fault.status === 401) {
      sessionStorage.removeItem("key");
      at("main").hidden = true;
      at("login").hidden = false;
      return;
    }
  }
  setTimeout(turn, EVERY_MS);
}

at("login").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem("key", at("key").value);
  turn();
});
turn();
