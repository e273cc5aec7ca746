// One device: how it does, its window and why, its frames as they pass. Without an id: finding one.

import { $, el, fmt, get, header, live, note, put, text } from "./common.js";
import { PRIORITIES, deviceHref, itemLink, keepFocus, payload, priority, renew, shown } from "./feed.js";

const device = named(location.pathname.slice("/device/".length));
const KEPT = 40; // frames that are listed

/** What makes an item's rank, in the order in which it is added up; the age is taken away. */
const PARTS = [
  ["age", "c0", "its age"],
  ["priority", "c1", "its priority"],
  ["filter", "c2", "how closely it is followed"],
  ["everybody", "c3", "what everybody makes of it"],
  ["fairness", "c5", "fairness to its publisher"],
  ["device", "c4", "this device"],
  ["exploration", "c6", "trying out"],
];
const RUNGS = {
  live: "what was learned", snapshot: "an earlier version of what was learned", popularity: "popularity", newest: "newest first",
};

/** The device of a path; what is no encoding stands for itself, and is found to be no device. */
function named(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

// ---- Finding one

async function find() {
  document.title = "Devices · fleetfeed";
  const list = el("div", {});
  const words = el("input", { type: "search", placeholder: "Part of a device's id", "aria-label": "Part of a device's id", autofocus: true, spellcheck: "false", class: "wide-search" });
  put($("page"), el("div", { class: "heading" }, el("h1", {}, "Devices")), el("section", { class: "panel" }, words, list));
  let asked = 0;
  async function search() {
    const mine = ++asked;
    try {
      const found = await get(`/api/v1/devices?search=${encodeURIComponent(words.value.trim())}`);
      if (mine !== asked) return;
      if (!found.devices.length) put(list, note("No device of that name", words.value ? "Ids are letters, digits and _ . : -" : "None has come yet, and none was added."));
      else put(list, el("ul", { class: "names" }, found.devices.map((id) => el("li", {}, el("a", { href: deviceHref(id) }, id)))),
        found.more && el("p", { class: "muted small" }, "There are more: say more of the id."));
    } catch (error) {
      if (mine === asked) put(list, note("That did not work", error.message, "bad"));
    }
  }
  words.addEventListener("input", search);
  await search();
}

// ---- The page of one

const open = new Set(); // items and frames that were unfolded
const frames = new Map(); // by id
let state = null, skew = 0, end = () => {};

const now = () => Date.now() / 1000 - skew;

function frame() {
  document.title = `${device} · fleetfeed`;
  put($("page"),
    el("div", { class: "heading" }, el("h1", { class: "mono" }, device), el("p", { id: "standing", role: "status" })),
    el("dl", { class: "tiles", id: "tiles" }),
    el("div", { class: "grid device" },
      el("div", { class: "two-thirds column" },
        el("section", { class: "panel", id: "window", "aria-label": "Window" })),
      el("div", { class: "third column" },
        el("section", { class: "panel", id: "allowed", "aria-label": "What it may be sent" }),
        el("section", { class: "panel", id: "profile", "aria-label": "Profile" }))),
    el("section", { class: "panel", id: "frames", "aria-label": "Frames" }));
  showFrames();
}

function took(found, event) {
  if (event === "state") showState(found);
  else if (event === "window") showWindow(found);
  else if (event === "gone") {
    end();
    put($("page"), note("This device is gone", found.error, "bad"));
  }
  else if (event === "frames") {
    for (const each of found.frames) frames.set(each.id, { ...each, fresh: !frames.has(each.id) && frames.size > 0 && each.at !== null });
    for (const id of [...frames.keys()].sort((a, b) => a - b).slice(0, -KEPT)) frames.delete(id);
    showFrames();
  }
}

// ---- How it does

function showState(found) {
  state = found;
  skew = Date.now() / 1000 - found.now;
  const { tone, words } = found.standing;
  put($("standing"), el("span", { class: `dot ${tone === "idle" ? "" : tone}` }), el("span", { class: `words ${tone}` }, words));
  showTiles(found);
  showAllowed(found);
  showProfile(found);
  for (const node of document.querySelectorAll("[data-waits]")) text(node, waits(frames.get(Number(node.dataset.waits))));
}

function tile(name, value, unit, below, tone = "") {
  return el("div", { class: `tile ${tone}` }, el("dt", {}, name),
    el("dd", {}, el("div", { class: "value" }, value, unit && el("span", { class: "unit" }, unit)), el("div", { class: "below", title: below }, below)));
}

function showTiles(found) {
  const feed = found.feed;
  const waiting = feed?.waiting_for;
  const late = found.connected && feed.inflight && waiting >= feed.stall_after;
  const slow = found.connected && feed.inflight && waiting >= 5;
  const tiles = [
    tile("Position", found.position ? fmt.count(found.position[1]) : "–", "", found.position ? `of epoch ${found.position[0]}` : "nothing sent"),
    tile("Under way", feed ? fmt.count(feed.inflight) : "–", feed ? `of ${feed.max_inflight}` : "",
      feed?.inflight ? `for ${fmt.duration(waiting)}` : "all acknowledged", late ? "bad" : slow ? "warn" : ""),
    tile("Behind", feed ? (feed.behind ? "yes" : "no") : "–", "", !feed ? "no window here" : feed.behind ? (feed.blocked ? "it does not read" : "more to come") : "has all its feed has"),
    tile("Window", fmt.count(feed?.k ?? found.k), "items", "that it shows at most"),
    tile("Packet", fmt.count(found.budget), "B", feed ? `${fmt.count(feed.payload_max)} B of them payload` : "at most"),
    tile("QoS", found.persistent_subscription_qos ?? found.max_qos, "", found.subscribed ? "subscribed" : "not subscribed"),
  ];
  put($("tiles"), tiles);
}

function showAllowed(found) {
  const allowance = found.feed?.allowance;
  const budgets = [[allowance?.frames, fmt.count, "frames"], [allowance?.bytes, fmt.bytes, ""]].filter(([budget]) => budget);
  const seen = [...frames.values()].filter((each) => each.at !== null);
  const octets = seen.reduce((sum, each) => sum + each.bytes, 0);
  const largest = Math.max(0, ...seen.map((each) => each.bytes));
  put($("allowed"),
    el("header", {}, el("h2", {}, "What it may be sent")),
    el("dl", { class: "facts" },
      el("dt", {}, "In an hour"),
      el("dd", {}, budgets.length ? budgets.map(([budget, words, unit]) => budgetLeft(budget, words, unit)) : found.feed ? "no limit" : "–"),
      el("dt", {}, "Waiting"),
      el("dd", {}, allowance?.waiting ? "changes wait" : "nothing"),
      el("dt", {}, "Quiet hours"),
      el("dd", {}, found.quiet ? `${hour(found.quiet.begin)} to ${hour(found.quiet.end)} ${zone(found.quiet.zone)}` : "none",
        allowance?.quiet && [el("span", { class: "tag accent gap" }, "now"), el("div", { class: "muted small" }, "nothing but urgent items is sent")]),
      el("dt", {}, "A packet"),
      el("dd", {}, `${fmt.count(found.budget)} B`,
        largest > 0 && [meter(Math.min(largest / found.budget, 1), "c1", "the largest seen"), el("span", { class: "muted small" }, `the largest seen had ${fmt.count(largest)} B`)]),
      el("dt", {}, "Seen here"),
      el("dd", {}, seen.length ? `${fmt.of(seen.length, "frame")}, ${fmt.bytes(octets)}` : "no frame yet")));
}

/** An hourly budget: half of it can be spent at once, the other half comes back over the hour. */
function budgetLeft({ left, at_once, an_hour }, words, unit) {
  const some = Math.max(left, 0);
  return el("div", { class: "budget" }, `${words(an_hour)} ${unit}`,
    meter(Math.min(some / Math.max(at_once, 1), 1), "c1", "left of what it may be sent at once"),
    el("span", { class: "muted small" }, left > 0 ? `${words(some)} left of ${words(at_once)} that it may be sent at once` : "nothing left just now: it comes back over the hour"));
}

const meter = (share, kind, label) =>
  el("div", { class: "bar", role: "img", "aria-label": `${fmt.percent(share)}: ${label}` }, el("i", { class: kind, style: { width: `${100 * share}%` } }));
const hour = (minutes) => `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;
const zone = (name) => (/^[+-]?\d+$/.test(name) ? `UTC${Number(name) < 0 ? "−" : "+"}${Math.abs(Number(name))}` : name);

function showProfile(found) {
  const said = [found.follow, found.attributes, found.agent, found.credentials, found.rights, found.revoked, found.barred, found.held_by, found.failed_connections];
  renew($("profile"), said, () => drawProfile(found));
}

function drawProfile(found) {
  const attributes = Object.entries(found.attributes);
  const rights = Object.entries(found.rights);
  const row = (name, ...what) => [el("dt", {}, name), el("dd", {}, ...what)];
  const codes = (names) => names.map((each) => el("code", { class: "chip" }, each));
  put($("profile"),
    el("header", {}, el("h2", {}, "Profile")),
    el("dl", { class: "facts" },
      row("Follows", found.follow.length ? codes(found.follow) : "nothing"),
      row("Is", attributes.length ? attributes.map(([name, value]) => el("code", { class: "chip" }, `${name} = ${value}`)) : "no attributes"),
      row("Runs", found.agent || "does not say"),
      row("Clock", found.clock ? "has one" : "has none: it hides nothing by itself"),
      row("Proof", found.credentials.length ? found.credentials.join(", ") : "none needed of it"),
      rights.length > 0 && row("Rights", rights.map(([name, value]) => el("div", {}, `${name.replace("_", " ")}: ${Array.isArray(value) ? value.join(", ") : value}`))),
      row("Added by", found.added_by),
      found.barred?.length > 0 && row("Barred", `${fmt.of(found.barred.length, "item")} dismissed or kept from it`),
      found.failed_connections > 0 && row("Failed", `${fmt.of(found.failed_connections, "connection")} in a row`),
      found.held_by && row("Node", found.held_by)));
}

// ---- Its window, and why

function showWindow(found) {
  const panel = $("window");
  if (found === null) {
    put(panel, el("header", {}, el("h2", {}, "Its window")),
      note("It has no window here now", "It has not come since the server started, or not for long."));
    return;
  }
  const how = found.items.some((item) => item.held_out)
    ? "It stays on newest first, to measure against what the ranking is worth."
    : `Ranked by ${RUNGS[found.rung ?? found.model] ?? found.rung ?? found.model}${found.version ? `, version ${found.version}` : ""}.`;
  const head = el("header", {}, el("h2", {}, "Its window, and why"), el("span", { class: "muted" }, how));
  if (!found.items.length) {
    put(panel, head, note("Its window is empty", "Nothing that it follows is live, or nothing fits."));
    return;
  }
  const at = now();
  const rows = found.items.map((item) => ({ item, ...added(item, at) }));
  const at100 = scaleOf(rows);
  const used = PARTS.filter(([name]) => rows.some((row) => row.parts.some((part) => part.name === name)));
  keepFocus(panel, () => put(panel, head,
    el("ul", { class: "legend" }, used.map(([, kind, words]) => el("li", {}, el("span", { class: `key ${kind}` }), words)),
      el("li", {}, el("span", { class: "key total" }), "what it counts as: the further right, the higher")),
    el("ol", { class: "why" }, rows.map((row) => whyRow(row, at100)))));
}

/**
 * Where seconds stand on the bars, from 0 to 100. What is urgent stands days above everything else: it goes over the
 * edge, so that the others can be told apart.
 */
function scaleOf(rows) {
  const extents = rows.map((row) => row.high - row.low).sort((a, b) => a - b);
  const bound = 6 * Math.max(extents[extents.length >> 1], 10);
  const low = Math.max(Math.min(...rows.map((row) => row.low), 0), -bound);
  const high = Math.min(Math.max(...rows.map((row) => row.high), 0), bound);
  const span = Math.max(high - low, 1);
  const at100 = (seconds) => Math.min(Math.max((100 * (seconds - low)) / span, 0), 100);
  return Object.assign(at100, { low, high });
}

/** What is added up for one item, in seconds: newer than now is above 0. */
function added(item, at) {
  const age = Math.max(at - item.published, 0);
  const of = { age: -age, ...item.key };
  const parts = PARTS.map(([name, kind, words]) => ({ name, kind, words, seconds: of[name] ?? 0 })).filter((part) => Math.abs(part.seconds) >= 1);
  let up = 0, down = 0;
  for (const part of parts) {
    part.from = part.seconds >= 0 ? up : down + part.seconds;
    if (part.seconds >= 0) up += part.seconds;
    else down += part.seconds;
  }
  return { age, parts, low: down, high: up, total: up + down };
}

function whyRow({ item, age, parts, low, high, total }, at100) {
  const name = `item ${item.n}`;
  const said = parts.filter((part) => part.name !== "age").map((part) => `${signed(part.seconds)} ${part.words}`);
  const moved = item.place - item.place_by_key;
  const torn = [high > at100.high && "beyond", low < at100.low && "below"].filter(Boolean).join(" ");
  const bar = el("div", { class: `parts ${torn}`, role: "img", "aria-label": `counts as ${counts(total)}` },
    parts.map((part) => el("i", { class: part.kind, title: `${signed(part.seconds)}: ${part.words}`,
      style: { left: `${at100(part.from)}%`, width: `${at100(part.from + Math.abs(part.seconds)) - at100(part.from)}%` } })),
    el("b", { class: "zero", style: { left: `${at100(0)}%` } }),
    el("b", { class: "total", style: { left: `${at100(total)}%` }, title: `counts as ${counts(total)}` }));
  return el("li", {},
    el("details", { open: open.has(name), ontoggle: (event) => (event.target.open ? open.add(name) : open.delete(name)) },
      el("summary", { dataset: { key: name } },
        el("span", { class: "place" }, item.place),
        el("span", { class: "what" }, payload(item.payload), priority(item.priority)),
        el("span", { class: "as" }, bar, el("span", { class: "small muted nowrap" }, counts(total)))),
      el("div", { class: "inside" },
        el("p", {}, `Published ${fmt.duration(age)} ago on ${item.channel}`, said.length ? `; ${said.join(", ")}.` : "; nothing else counts for it."),
        moved > 0 && el("p", {}, `${moved} lower than that says, as what stands above it is much alike.`),
        moved < 0 && el("p", {}, `${-moved} higher than that says, as others repeat what stands above them.`),
        item.probability !== null && chance(item),
        item.payload?.cut || item.payload?.text.length > 60 ? payload(item.payload, { full: true }) : null,
        item.id !== null && el("p", { class: "small" }, itemLink(item.channel, item.id, "Its receipt"), ` – what became of ${item.id} everywhere`))));
}

/** What the model says, part by part: what each adds to the logit of being opened. */
function chance(item) {
  const strongest = item.parts.slice(0, 8);
  const most = Math.max(...strongest.map(([, logit]) => Math.abs(logit)), 0.01);
  return el("div", { class: "chance" },
    el("p", {}, "The model expects that it is opened with ", el("strong", {}, fmt.percent(item.probability)), strongest.length > 0 && ", because of:"),
    el("ul", {}, strongest.map(([name, logit]) => el("li", {},
      el("span", { class: "name" }, name),
      el("span", { class: `effect ${logit < 0 ? "less" : ""}` }, el("i", { style: { width: `${(50 * Math.abs(logit)) / most}%` } })),
      el("span", { class: "num small muted" }, `${logit < 0 ? "−" : "+"}${Math.abs(logit).toFixed(2)}`)))));
}

const signed = (seconds) => `${seconds < 0 ? "−" : "+"}${fmt.duration(Math.abs(seconds))}`;
/** Where an item stands on the scale of time, as if nothing but its age counted. */
const counts = (seconds) => (Math.abs(seconds) < 1 ? "new" : `${fmt.duration(Math.abs(seconds))} ${seconds > 0 ? "ahead" : "old"}`);

// ---- Its frames

function showFrames() {
  const last = [...frames.values()].sort((a, b) => b.id - a.id);
  const head = el("header", {}, el("h2", {}, "Its last frames"), el("span", { class: "muted" }, last.length ? "newest first, as they pass" : "as they pass"));
  if (!last.length) {
    put($("frames"), head, note("No frame has passed yet", "They are gathered from now on, while somebody looks."));
    return;
  }
  keepFocus($("frames"), () => put($("frames"), head, el("ol", { class: "frames" }, last.map(frameRow))));
  for (const each of last) each.fresh = false;
}

function frameRow(each) {
  const name = `frame ${each.id}`;
  const all = changes(each);
  const first = all.findIndex((line) => line[0] === "puts "); // what is new says most
  const base = each.kind === "delta" && each.base !== null ? ` from ${each.base}` : "";
  return el("li", { class: each.fresh ? "fresh" : null },
    el("span", { class: "when small muted" }, each.at === null ? "before" : fmt.clock(each.at)),
    el("span", { class: "kind" }, el("span", { class: `tag ${each.kind === "snapshot" ? "accent" : ""}` }, each.kind),
      el("span", { class: "small muted nowrap", title: "epoch and sequence number" }, `${each.epoch} · ${each.seq}${base}`)),
    el("div", { class: "does" }, all.length === 1 ? all[0]
      : el("details", { open: open.has(name), ontoggle: (event) => (event.target.open ? open.add(name) : open.delete(name)) },
        el("summary", { dataset: { key: name } }, changes(each)[Math.max(first, 0)], el("span", { class: "muted" }, ` and ${all.length - 1} more`)), el("ul", {}, (each.kind === "snapshot" ? all.slice(1) : all).map((line) => el("li", {}, line))))),
    el("span", { class: "size small" }, el("span", { class: "nowrap" }, `${fmt.count(each.bytes)} B`, el("span", { class: "muted" }, ` · QoS ${each.qos}`)),
      state && el("span", { class: "bar thin" }, el("i", { class: "c2", style: { width: `${Math.min((100 * each.bytes) / state.budget, 100)}%` } }))),
    el("span", { class: "ack small", dataset: { waits: each.id } }, waits(each)));
}

/** What a frame does, op by op, in words. */
function changes(each) {
  if (each.kind === "unknown") return [["of a kind that this page does not know"]];
  const what = (change) => [priorityWord(change), "“", el("q", {}, change.payload ? change.payload.text + (change.payload.cut ? "…" : "") : `item ${change.n ?? "that is gone"}`), "”"];
  if (each.kind === "snapshot") {
    const all = each.changes.map((change) => [`${change.to}. `, ...what(change)]);
    return [[`the whole window: ${fmt.of(each.changes.length, "item")} of at most ${each.k}`], ...all];
  }
  if (!each.changes.length) return [["changes nothing, and says where the device stands"]];
  return each.changes.map((change) => {
    if (change.op === "remove") return [`removes `, ...what(change), ` from place ${change.from}`];
    if (change.op === "move") return [`moves `, ...what(change), ` from place ${change.from} to ${change.to}`];
    if (change.from === null) return [`puts `, ...what(change), ` at place ${change.to}`];
    return change.from === change.to ? [`renews `, ...what(change), ` at place ${change.to}`] : [`renews `, ...what(change), `, now at place ${change.to}, from ${change.from}`];
  });
}

const priorityWord = (change) => (change.op === "put" && change.priority !== 1 ? `${PRIORITIES[change.priority] ?? ""} ` : "");

/** How a frame stands: acknowledged, waiting, or neither. */
function waits(each) {
  if (!each) return "";
  const again = each.again ? `, sent ${each.again + 1} times` : "";
  if (each.acked_at !== null) return (each.at === null ? "acknowledged" : `acknowledged after ${fmt.time(Math.max(each.acked_at - each.at, 0))}`) + again;
  if (each.qos === 0) return "not asked to be acknowledged";
  const [epoch, seq] = state?.position ?? [0, 0];
  const inflight = state?.unacknowledged ?? 0;
  if (each.epoch === epoch && each.seq > seq - inflight) return (each.at === null ? "waiting" : `waiting for ${fmt.duration(now() - each.at)}`) + again;
  return "settled otherwise: a hello, or the end of its connection";
}

// ---- Begin

const page = header();
if (!device) await find();
else {
  try {
    const found = await get(`/api/v1/device/${encodeURIComponent(device)}`);
    frame();
    took({ frames: found.frames }, "frames");
    showState(found.device);
    showWindow(found.window);
    end = live(`/events/device/${encodeURIComponent(device)}`, took, { events: ["state", "window", "frames", "gone"], silence: 10 + 3 * ((await page)?.refresh ?? 30) });
  } catch (error) {
    put($("page"), note(error.status === 400 ? "No such device" : "That did not work", error.message, "bad"));
  }
}
shown();
