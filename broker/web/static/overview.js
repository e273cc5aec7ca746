// The overview: one stream of events feeds everything on it.

import { $, el, fmt, header, live, note, put, table } from "/static/common.js";
import { chart, spark } from "/static/charts.js";

const KEPT = 600; // seconds, as the server keeps them
const LEVEL_KIND = ["ok", "warn", "warn", "warn", "bad", "bad"];
const STATES = {
  stalled: ["bad", "stalled"], full: ["warn", "does not read"], late: ["warn", "late"],
  budget: ["", "waits for budget"], quiet: ["", "quiet hours"],
};

let columns = null;

const rates = chart($("rates"), {
  series: [
    { name: "frames", label: "frames", colour: "c1", scale: "frames", fill: 14 },
    { name: "items", label: "items", colour: "c3", scale: "items" },
    { name: "drops", label: "drops", colour: "c6", scale: "items" },
  ],
  scales: {
    frames: { format: (each) => `${fmt.rate(each)}/s`, tick: fmt.short, least: 10 },
    items: { format: (each) => `${fmt.rate(each)}/s`, tick: fmt.short, right: true, colour: "c3", least: 4, size: 38 },
  },
});

const three = (name) => (look) => ["p50", "p95", "p99"].map((each) => fmt.time(look(`${name}_${each}`))).join(" · ");
const quantiles = (name, colour) => [
  { name: `${name}_p99`, colour, scale: "time", width: 0, quiet: true },
  { name: `${name}_p95`, colour, scale: "time", width: 1.75 },
  { name: `${name}_p50`, colour, scale: "time", width: 0, quiet: true },
];
const latency = chart($("latency"), {
  series: [...quantiles("frame", "c1"), ...quantiles("ack", "c3")],
  bands: [["frame_p99", "frame_p50", "c1"], ["ack_p99", "ack_p50", "c3"]],
  scales: { time: { format: fmt.time, tick: (each) => (each < 1 ? `${Number((each * 1000).toPrecision(1))} ms` : `${each} s`), log: true, size: 50 } },
  legend: [
    { label: "to its frame", colour: "c1", value: three("frame") },
    { label: "to its ack", colour: "c3", value: three("ack") },
  ],
});

// ---- Parts

function state(now) {
  const { ready, overload, ranking } = now;
  const ranks = ranking.model === "learned"
    ? [ranking.words, ranking.version ? ` (version ${fmt.count(ranking.version)})` : ""]
    : [ranking.model];
  put($("state"),
    el("strong", { class: `tag ${ready.ready ? "ok" : "bad"}` }, ready.ready ? "Ready" : "Not ready"),
    fact("fleetfeed", now.version),
    fact("up", fmt.duration(now.uptime)),
    el("span", {}, el("span", { class: "muted" }, "overload "),
      el("span", { class: overload.level ? `tag ${LEVEL_KIND[overload.level]}` : "" }, overload.level ? `level ${overload.level}` : "none"),
      overload.level > 0 && el("span", { class: "optional" }, ` ${overload.words}`)),
    el("span", {}, el("span", { class: "muted" }, "ranking "),
      el("a", { href: "/model" }, ranks)),
    now.cluster && fact("node", `${now.cluster.node}, of ${now.cluster.members}`));
}

const fact = (name, value) => el("span", {}, el("span", { class: "muted" }, `${name} `), value);

function reasons(ready) {
  const panel = $("reasons");
  panel.hidden = ready.ready;
  if (ready.ready) return;
  put(panel, el("h2", {}, "Why it is not ready"), el("dl", { class: "facts" }, ready.reasons.map((each) => [
    el("dt", {}, each.reason.replaceAll("_", " ")),
    el("dd", {}, `${each.detail[0].toUpperCase()}${each.detail.slice(1)}. `, el("span", { class: "muted" }, each.do)),
  ])));
}

function tiles(now) {
  const { devices, frames, latency: times, process } = now;
  const ack = times.ack;
  put($("tiles"),
    tile("Subscribed", fmt.count(devices.subscribed), "", `of ${fmt.count(devices.total)} known`, "", "devices"),
    tile("Connected", fmt.count(devices.connected), "", now.waiting ? `${fmt.count(now.waiting)} wait for budget` : "devices"),
    tile("Silent", fmt.count(devices.silent), "", "not subscribed"),
    tile("Stalled", fmt.count(devices.stalled), "", "without an ack", devices.stalled ? "bad" : ""),
    tile("Frames", fmt.rate(frames.rate), "/s", `${fmt.rate(now.items.rate)} items/s, ${fmt.short(now.items.live)} live`, "", "frames"),
    tile("Publish to ack, p95", ...unit(fmt.time(ack.p95)), ack.p50 === null ? "nothing lately" : `p99 ${fmt.time(ack.p99)}`, "", "ack_p95"),
    tile("Memory", ...unit(fmt.bytes(process.rss)), `at most ${fmt.bytes(process.rss_max)}`, "", "rss"),
    tile("CPU", ...unit(fmt.percent(process.cpu)), "of one core", process.cpu > 0.9 ? "warn" : "", "cpu"));
}

const unit = (words) => { const [value, ...rest] = words.split(" "); return [value, rest.join(" ")]; };

function tile(name, value, of, below, kind = "", column = null) {
  return el("div", { class: `tile ${kind}` }, el("dt", {}, name),
    el("dd", { class: "value" }, value, of && el("span", { class: "unit" }, of), column && spark(columns[column])),
    el("dd", { class: "below", title: below }, below));
}

function worst(rows, devices) {
  if (!rows.length) {
    const calm = devices.subscribed ? `${fmt.of(devices.subscribed, "device")} subscribed, and none of them late.` : "No device is subscribed yet. mosquitto_sub -i kitchen -q 1 -t f/kitchen would be one.";
    return put($("worst"), note(devices.subscribed ? "All devices keep up" : "Nobody is here", calm));
  }
  put($("worst"), table([
    { name: "Device", cell: (row) => el("a", { class: "mono", href: `/device/${encodeURIComponent(row.device)}` }, row.device) },
    { name: "State", cell: (row) => el("span", { class: `tag ${STATES[row.state][0]}` }, STATES[row.state][1]) },
    { name: "No ack for", num: true, cell: (row) => (row.seconds ? fmt.duration(row.seconds) : "–") },
    { name: "In flight", num: true, optional: true, cell: (row) => fmt.of(row.unacknowledged, "frame") },
    { name: "Behind by", num: true, cell: (row) => (row.lacks ? fmt.of(row.lacks, "item") : "–") },
  ], rows, "Devices that do worst"));
}

function overload(now) {
  const { level, words, delays, held, held_bytes, rises } = now.overload;
  put($("overload"),
    el("p", { class: "level" }, el("span", { class: `tag ${LEVEL_KIND[level]}` }, `level ${level}`), ` ${words}`),
    strip(),
    el("dl", { class: "facts" },
      pair("Event loop late by", fmt.time(delays.loop_lag)),
      pair("Oldest item waits", fmt.time(delays.oldest_item)),
      pair("Items held", held.items ? `${fmt.count(held.items)} (${fmt.bytes(held_bytes)})` : "none"),
      pair("Publishers not read", fmt.count(held.publishers) === "0" ? "none" : fmt.count(held.publishers)),
      pair("Clients waiting to come in", held.connects ? fmt.count(held.connects) : "none"),
      pair("Rose", rises ? fmt.of(rises, "time") : "never since the start")));
  put($("overload-since"), level ? `for ${fmt.duration(now.overload.seconds)}` : "");
}

const pair = (name, value) => [el("dt", {}, name), el("dd", { class: "num" }, value)];

/** The level over time: a strip of runs, as wide as they are long. */
function strip() {
  const { at, level } = columns;
  if (!at.length) return null;
  const last = at[at.length - 1], first = last - Math.min(Math.max(last - at[0], 60), KEPT);
  const runs = [];
  at.forEach((t, index) => {
    if (runs.length && runs[runs.length - 1].level === level[index]) runs[runs.length - 1].to = t;
    else runs.push({ level: level[index], from: runs.length ? runs[runs.length - 1].to : t, to: t });
  });
  const whole = last - first;
  const lead = Math.max(at[0] - first, 0);
  const worst = Math.max(...level);
  return el("div", { class: "levels" },
    el("div", { class: "strip", role: "img", "aria-label": `Level over the last ${fmt.duration(whole)}, at most ${worst}` },
      el("i", { class: "before", style: { width: `${(100 * lead) / whole}%` } }),
      runs.map((run) => el("i", { class: `l${run.level}`, title: `level ${run.level}, ${fmt.clock(run.from)} to ${fmt.clock(run.to)}`, style: { width: `${(100 * (run.to - run.from)) / whole}%` } }))),
    el("div", { class: "ends muted small" }, el("span", {}, fmt.clock(first)), el("span", {}, worst ? `at most ${worst}` : "always 0"), el("span", {}, "now")));
}

function drops(now) {
  if (!now.drops.length) return put($("drops"), note("Nothing was dropped", "Whatever is, is counted here under its reason."));
  put($("drops"), table([
    { name: "What", optional: true, cell: (row) => el("span", { class: "muted" }, row.what) },
    { name: "Why", cell: (row) => [row.words, !row.fault && el("span", { class: "muted small" }, " (all day)")] },
    { name: "Last minute", num: true, cell: (row) => (row.minute ? fmt.count(row.minute) : el("span", { class: "muted" }, "0")) },
    { name: "In all", num: true, cell: (row) => fmt.count(row.total) },
  ], now.drops, "Drops by reason"), now.more_drops ? el("p", { class: "muted small" }, `and ${fmt.of(now.more_drops, "reason")} more, in /metrics`) : null);
}

function events(rows) {
  if (!rows.length) return put($("events"), note("Nothing to tell", "Changes of overload, ranking and store are noted here."));
  put($("events"), el("ol", { class: "events" }, rows.map((each) => el("li", {},
    el("span", { class: `dot ${each.grade}` }), el("time", { class: "muted" }, fmt.clock(each.at)), el("span", {}, each.words)))));
}

/** The mean of each value and the four before it: of single seconds one would see nothing but noise. */
function smooth(values, over = 5) {
  let sum = 0;
  return values.map((value, index) => {
    sum += value - (index >= over ? values[index - over] : 0);
    return Math.max(sum / Math.min(index + 1, over), 0);
  });
}

// ---- The stream

function append(point) {
  const { at } = columns;
  if (point === null) return;
  // The server's clock was set back: what is later than now cannot be drawn.
  while (at.length && at[at.length - 1] > point.at) for (const name of Object.keys(columns)) columns[name].pop();
  if (at.length && at[at.length - 1] === point.at) return;
  for (const name of Object.keys(columns)) columns[name].push(point[name] ?? null);
  const over = at.findIndex((each) => each >= point.at - KEPT);
  if (over > 0) for (const name of Object.keys(columns)) columns[name].splice(0, over);
}

function show(now) {
  append(now.point);
  document.title = `${now.ready.ready ? "" : "not ready: "}fleetfeed, ${fmt.of(now.devices.subscribed, "device")}`;
  state(now);
  reasons(now.ready);
  tiles(now);
  rates.set({ at: columns.at, frames: smooth(columns.frames), items: smooth(columns.items), drops: smooth(columns.drops) });
  latency.set(columns);
  worst(now.worst, now.devices);
  overload(now);
  drops(now);
  events(now.events);
  document.body.dataset.shown = "yes";
}

const page = await header();
live("/events", (data, event) => {
  if (event === "history") columns = data;
  else if (columns !== null) show(data);
}, { events: ["history"], silence: 10 + 3 * (page?.refresh ?? 30) });
