// What all pages share: elements, words for numbers, requests, the live line to the server, the header.
//
// Text of others (payloads, names, errors) reaches the page through `el` alone, and so only as text.

// ---- Elements

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/**
 * Makes an element.
 * @param {string} tag its name; "svg:" before it makes one of a drawing.
 * @param {object} props attributes; besides: class, style (an object), dataset, and functions as on… listeners.
 *     What is null, undefined or false is left out.
 * @param {...any} children nodes, texts, numbers, lists of these; null and false are left out.
 */
export function el(tag, props = {}, ...children) {
  const drawing = tag.startsWith("svg:");
  const node = drawing
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") for (const [key, each] of Object.entries(value)) node.style.setProperty(key, each);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (typeof value === "function") node.addEventListener(name.slice(2).toLowerCase(), value);
    else node.setAttribute(name, value === true ? "" : name === "title" || name === "aria-label" ? legible(value) : value);
  }
  return put(node, ...children);
}

// Marks that turn the direction of what follows, until somebody ends it: in a name, they would turn the page's own words.
const TURNS = /[\u202a-\u202e\u2066-\u2069]/g;
/** Text with such marks named instead of followed. */
const legible = (words) => String(words).replace(TURNS, (each) => `⟨U+${each.codePointAt(0).toString(16).toUpperCase()}⟩`);

/** Gives a node these children in the place of those that it has. */
export function put(node, ...children) {
  const wanted = children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);
  node.replaceChildren(...wanted.map((each) => (each instanceof Node ? each : legible(each))));
  return node;
}

/** Sets a node's text, and touches it only if that is another one. */
export function text(node, words) {
  const wanted = legible(words);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** A note in the place of content: nothing there ("empty"), an error ("bad"), not yet ("wait"). */
export function note(title, detail = "", kind = "empty") {
  return el("div", { class: `note ${kind === "bad" ? "bad" : ""}`, role: kind === "bad" ? "alert" : null },
    el("strong", {}, title), detail && el("span", {}, detail));
}

/** A bar of parts: [{share (0 to 1), class ("c1"…), title}]. */
export function stack(parts, label = null) {
  return el("div", { class: "stack", role: "img", "aria-label": label }, parts.map((part) =>
    el("i", { class: part.class, title: part.title, style: { width: `${100 * Math.max(part.share, 0)}%` } })));
}

/** A list of rows. Columns: [{name, num (right-aligned), optional (not on small screens), cell(row)}]. */
export function table(columns, rows, caption = null) {
  const look = (column) => [column.num && "num", column.optional && "optional"].filter(Boolean).join(" ") || null;
  return el("div", { class: "scroll" }, el("table", {},
    caption && el("caption", { class: "visually-hidden" }, caption),
    el("thead", {}, el("tr", {}, columns.map((each) => el("th", { class: look(each), scope: "col" }, each.name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, columns.map((each) => el("td", { class: look(each) }, each.cell(row))))))));
}

// ---- Numbers in words

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const dash = "–";
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
const digits = (value) => (value >= 100 || Number.isInteger(value) ? 0 : value >= 10 ? 1 : 2);

export const fmt = {
  /** 12,345 */
  count: (value) => (known(value) ? whole.format(value) : dash),
  /** Events a second: 0.42, 9.5, 1,204. */
  rate: (value) => (!known(value) ? dash : value && value < 9.95 ? value.toFixed(value < 0.995 ? 2 : 1) : whole.format(value)),
  /** A count for the side of a drawing: 850, 1.2k, 34k, 2M. */
  short(value) {
    if (!known(value)) return "";
    const [of, name] = value >= 999_500 ? [1e6, "M"] : value >= 999.5 ? [1e3, "k"] : [1, ""];
    return `${Number((value / of).toPrecision(value / of < 10 ? 2 : 3))}${name}`;
  },
  /** Any number with about three figures. */
  number: (value) => (known(value) ? value.toFixed(Math.abs(value) < 1000 ? digits(Math.abs(value)) : 0) : dash),
  /** Seconds as time that passes: 840 µs, 12 ms, 1.4 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
  time(seconds) {
    if (!known(seconds)) return dash;
    if (seconds < 5e-7) return "0 ms";
    if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
    if (seconds < 0.9995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
    if (seconds < 60) return `${seconds.toFixed(seconds < 9.95 ? 1 : 0)} s`;
    return fmt.duration(seconds);
  },
  /** The same in whole seconds and above: 4 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
  duration(seconds) {
    if (!known(seconds)) return dash;
    const s = Math.max(Math.round(seconds), 0);
    const two = (big, name, small, other) => `${big} ${name}${small ? ` ${small} ${other}` : ""}`;
    if (s < 60) return `${s} s`;
    if (s < 3600) return two(Math.floor(s / 60), "min", s % 60, "s");
    if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
    return two(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
  },
  /** 512 B, 1.4 kB, 214 MB. */
  bytes(value) {
    if (!known(value)) return dash;
    const units = ["B", "kB", "MB", "GB", "TB"];
    let at = 0;
    while (value >= 999.5 && at < units.length - 1) [value, at] = [value / 1000, at + 1];
    return `${at && value < 9.95 ? value.toFixed(1) : value.toFixed(0)} ${units[at]}`;
  },
  /** 0.123 as 12.3 %. */
  percent: (share) => (known(share) ? `${(100 * share).toFixed(share && share < 0.0995 ? 1 : 0)} %` : dash),
  /** Unix seconds as the time of day here. */
  clock: (unix) => (known(unix) && unix > 0 ? new Date(unix * 1000).toLocaleTimeString("en-GB") : dash),
  /** Unix seconds as day and time here. */
  moment: (unix) => (known(unix) && unix > 0 ? new Date(unix * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) : dash),
  /** 1 device, 2 devices. */
  of: (value, one, many = `${one}s`) => `${fmt.count(value)} ${value === 1 ? one : many}`,
};

// ---- Requests

/** The server's answer was no; the message is its sentence. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const PATIENCE = { get: 10, post: 40 }; // seconds; to publish, the server itself waits for its store

/** JSON of a path of this server. Throws `Refused`; where a login is needed, goes there. */
export async function get(path) {
  return answer(await reach(path, PATIENCE.get, {}));
}

/** Sends JSON, likewise. */
export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return answer(await reach(path, PATIENCE.post, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function reach(path, patience, options) {
  const signal = AbortSignal.timeout(1000 * patience);
  try {
    return await fetch(path, { cache: "no-store", credentials: "same-origin", headers: { Accept: "application/json" }, signal, ...options });
  } catch {
    throw new Refused("The server does not answer.", 0);
  }
}

async function answer(response) {
  if (response.status === 401) {
    location.assign("/login");
    return new Promise(() => {}); // the page is about to go
  }
  const found = await response.json().catch(() => null);
  if (response.ok && found !== null) return found;
  throw new Refused(found?.error ?? found?.detail ?? `The server answered ${response.status}.`, response.status);
}

// ---- The live line

const WAITS = [1, 2, 4, 8]; // seconds before each further attempt
const MUTE = 2; // seconds without a word why, after which a server that is lost is told to be

/**
 * Listens to a path of server-sent events for as long as the page is looked at, and comes back when the
 * server does. The header and a line above the page say how that goes.
 * @param {string} path which.
 * @param {(data: any, event: string) => void} heard called with each event's JSON.
 * @param {{events?: string[], silence?: number}} options names of events besides "message"; seconds without any
 *     after which the server counts as lost, 0 for never.
 * @returns {() => void} ends it.
 */
export function live(path, heard, { events = [], silence = 0 } = {}) {
  let source = null, timer = 0, watch = 0, failures = 0, last = 0, over = false;

  function begin() {
    clearTimeout(timer);
    listen();
    source = new EventSource(path);
    source.onopen = () => alive();
    source.onerror = () => lose();
    for (const name of ["message", ...events]) source.addEventListener(name, (event) => take(name, event.data));
  }
  function end() {
    clearTimeout(timer);
    clearTimeout(watch);
    source?.close();
    source = null;
  }
  function alive() {
    failures = 0;
    last = Date.now();
    online("ok", "live");
    listen();
  }
  function listen() {
    clearTimeout(watch);
    if (silence) watch = setTimeout(lose, silence * 1000);
  }
  function take(name, data) {
    alive();
    heard(JSON.parse(data), name);
  }
  async function lose() {
    end();
    if (over) return;
    const wait = WAITS[Math.min(failures++, WAITS.length - 1)];
    timer = setTimeout(begin, wait * 1000);
    const mute = setTimeout(() => lost("The server does not answer.", last), MUTE * 1000);
    const why = await get("/api/v1/page").then(() => "It is there, but this page cannot listen to it yet.", (error) => error.message);
    clearTimeout(mute);
    if (source?.readyState !== EventSource.OPEN) lost(why, last);
  }
  function looked() {
    if (over) return;
    if (document.hidden) end();
    else if (source === null) begin();
  }

  document.addEventListener("visibilitychange", looked);
  addEventListener("pagehide", end);
  looked();
  return () => {
    over = true;
    end();
  };
}

/**
 * Asks again and again for as long as the page is looked at; the header says how that goes.
 * @param {() => Promise<void>} ask one round.
 * @param {number} seconds between two.
 */
export function poll(ask, seconds) {
  let timer = 0, last = 0, under_way = false;
  async function round() {
    clearTimeout(timer);
    if (under_way || document.hidden) return;
    under_way = true;
    try {
      await ask();
      last = Date.now();
      online("ok", "live");
    } catch (error) {
      lost(error.message, last);
      if (!(error instanceof Refused)) throw error;
    } finally {
      under_way = false;
      timer = setTimeout(round, seconds * 1000);
    }
  }
  document.addEventListener("visibilitychange", round);
  round();
}

function online(kind, words) {
  const line = document.querySelector("#top .line");
  if (line !== null && line.dataset.kind !== kind) {
    line.dataset.kind = kind;
    put(line, el("span", { class: `dot ${kind}` }), words);
  }
  if (kind === "ok") {
    document.body.classList.remove("stale");
    $("lost")?.remove();
  }
}

function lost(why, last) {
  online("warn", "lost");
  document.body.classList.add("stale");
  const words = el("span", {}, last ? `What you see is from ${fmt.clock(last / 1000)}. ${why}` : why);
  const line = el("p", { id: "lost", role: "status" }, "Lost the server, trying again.", words);
  const before = $("lost");
  if (before) before.replaceWith(line);
  else document.querySelector("main").prepend(line);
}

// ---- The header

const PAGES = [["/", "Overview"], ["/items", "Items"], ["/model", "Model"]];

/** Fills `<header id="top">`. What this server allows decides what it shows. */
export async function header() {
  const go = (event) => {
    event.preventDefault();
    const device = event.target.elements.device.value.trim();
    if (device) location.assign(`/device/${encodeURIComponent(device)}`);
  };
  const link = ([path, name]) => el("a", { href: path, "aria-current": location.pathname === path && "page" }, name);
  const nav = el("nav", { "aria-label": "Pages" }, PAGES.map(link));
  put($("top"),
    el("a", { class: "brand", href: "/" }, "fleetfeed"),
    nav,
    el("form", { role: "search", onsubmit: go },
      el("input", { name: "device", type: "search", placeholder: "Device id", "aria-label": "Go to a device", autocomplete: "off", spellcheck: "false" })),
    el("div", { class: "line", role: "status" }));
  const page = await get("/api/v1/page").catch(() => null);
  if (page?.send) nav.append(link(["/send", "Send"]));
  // A form, not a script: it works as logging in does, and the server's answer leads to the page of that.
  if (page?.login) $("top").append(el("form", { class: "leave", method: "post", action: "/logout" }, el("button", {}, "Log out")));
  return page;
}
