// The model: asked for every few seconds, as nothing in it moves faster.

import { $, el, fmt, get, header, note, poll, put, stack, table } from "/static/common.js";
import { chart } from "/static/charts.js";

const SHOWN = 6; // publishers that have a colour of their own
const ALARMS = {
  worse_than_rate: "worse than always saying the rate", miscalibrated: "out of calibration",
  drift_up: "more happens than it says", drift_down: "less happens than it says",
};
const SHIFT_KIND = { stable: "ok", moving: "warn", shifted: "bad", unknown: "" };
const HOURS = 7200;

const right = chart($("right"), {
  series: [
    { name: "calibration", label: "calibration", colour: "c1", scale: "y" },
    { name: "entropy", label: "normalised entropy", colour: "c3", scale: "y" },
    { name: "one", label: "", colour: "muted", scale: "y", dash: [3, 4], width: 1, quiet: true },
  ],
  scales: { y: { format: fmt.number, tick: (each) => each.toFixed(1), least: 1.6 } },
  span: HOURS, sync: "model", height: 170,
});
const drift = chart($("drift"), {
  series: [
    { name: "drift", label: "drift", colour: "c1", scale: "y", fill: 14 },
    { name: "one", label: "", colour: "bad", scale: "y", dash: [3, 4], width: 1, quiet: true },
  ],
  legend: [{ label: "of the way to the alarm", colour: "c1", value: (look) => fmt.percent(look("drift")) }],
  scales: { y: { format: fmt.number, tick: fmt.percent, least: 1.1 } },
  span: HOURS, sync: "model", height: 170,
});

// ---- Parts

function tiles({ status, counts, feedback }) {
  const all = status.cohorts?.all ?? {};
  const { lift = {} } = status;
  put($("tiles"),
    tile("Learned outcomes", fmt.count(status.learned), `${fmt.count(status.pending)} wait for theirs`),
    tile("Feedback heard", fmt.count(feedback), "events of devices"),
    tile("Calibration", fmt.number(all.calibration), all.calibration === null ? "not enough known yet" : `said ${fmt.percent(all.predicted)}, was ${fmt.percent(all.rate)}`, alarm(all, "miscalibrated")),
    tile("Normalised entropy", fmt.number(all.normalised_entropy), "1 would know nothing", alarm(all, "worse_than_rate")),
    tile("Drift", fmt.percent(all.drift_level), "of the way to the alarm", alarm(all, "drift_up", "drift_down")),
    tile("Lift over newest first", lift.lift === null || lift.lift === undefined ? "–" : signed(lift.lift), liftWords(lift, status.holdout)),
    tile("Falls and climbs", `${fmt.count(counts.fell ?? 0)} · ${fmt.count(counts.climbed ?? 0)}`, "since the start"));
}

const alarm = (reading, ...names) => (reading.alarms?.some((each) => names.includes(each)) ? "bad" : "");
const signed = (share) => `${share >= 0 ? "+" : "−"}${fmt.percent(Math.abs(share))}`;

function liftWords(lift, holdout) {
  if (!holdout) return "nobody is held out";
  if (lift.lift === null || lift.lift === undefined) return "too few held out yet";
  return lift.low === null ? "interval unknown yet" : `${signed(lift.low)} to ${signed(lift.high)}`;
}

function tile(name, value, below, kind = "") {
  return el("div", { class: `tile ${kind}` }, el("dt", {}, name), el("dd", { class: "value" }, value), el("dd", { class: "below", title: below }, below));
}

function ladder({ status, words }) {
  const rows = Object.entries(words).map(([name, said]) => ({ name, said, ...(status.rungs?.[name] ?? {}) }));
  put($("ladder"), table([
    { name: "Rung", cell: (row) => [row.said, " ", row.name === status.rung && el("span", { class: "tag accent" }, row.name === status.pinned ? "held" : "serves")] },
    { name: "Entropy", num: true, cell: (row) => fmt.number(row.normalised_entropy) },
    { name: "Calibration", num: true, cell: (row) => fmt.number(row.calibration) },
  ], rows, "Rungs of the ladder"),
  el("p", { class: "muted small after" }, status.pinned ? "An operator holds this rung: fleetfeed ranking pin none lets the evidence choose again." : "Whatever is worse than the next, or out of calibration, gives way to it, and wins its place back in the shadow."));
}

function publishers({ status }) {
  const { shares = [], cost = null } = status.publishers ?? {};
  put($("fairness"), shares.length ? `what was shown, against what it was worth${cost === null ? "" : `; setting it right costs ${fmt.percent(cost)} of openings`}` : "");
  if (!shares.length) return put($("publishers"), note("Nothing was shown yet", "Devices say what they show; until then no publisher has a share."));
  const sorted = [...shares].sort((a, b) => b.exposure - a.exposure);
  const colour = (index) => (index < SHOWN ? `c${index + 1}` : "c0");
  const parts = (name) => sorted.map((each, index) => ({ share: each[name], class: colour(index), title: `${each.name}: ${fmt.percent(each[name])}` }));
  const named = [["shown", "exposure"], ["merit", "merit"]].filter(([, name]) => sorted.some((each) => each[name] > 0));
  put($("publishers"),
    el("div", { class: "pair" }, named.map(([said, name]) => [el("span", { class: "muted small" }, said), stack(parts(name), `Shares of what was ${said}, by publisher`)])),
    table([
      { name: "Publisher", cell: (row) => [el("span", { class: `key ${colour(sorted.indexOf(row))}` }), row.name] },
      { name: "Shown", num: true, cell: (row) => fmt.percent(row.exposure) },
      ...(named.length < 2 ? [] : [
        { name: "Merit", num: true, cell: (row) => (row.merit ? fmt.percent(row.merit) : "–") },
        { name: "Shown over merit", num: true, cell: (row) => ratio(row.ratio) },
        { name: "Correction", num: true, optional: true, cell: (row) => (row.correction ? signed(Math.expm1(row.correction)) : "none") },
      ]),
      { name: "Times shown", num: true, optional: true, cell: (row) => fmt.count(row.impressions) },
    ], sorted, "Exposure per publisher"),
    named.length < 2 ? el("p", { class: "muted small after" }, "What each is worth is known while what was learned ranks.") : null);
}

const ratio = (value) => (value === null ? "–" : el("span", { class: value > 1.5 || value < 1 / 1.5 ? "tag warn" : "" }, fmt.number(value)));

function cohorts({ status }) {
  const rows = Object.entries(status.cohorts ?? {}).map(([name, each]) => ({ name, ...each }));
  const judged = rows.filter((each) => each.events);
  if (!judged.length) return put($("cohorts"), note("Nothing is known yet", "An outcome is known once an item's window has passed: opened, dismissed, or neither."));
  put($("cohorts"), table([
    { name: "Devices", cell: (row) => (row.name === "all" ? "all of them" : row.name) },
    { name: "", cell: (row) => standing(row) },
    { name: "Outcomes", num: true, optional: true, cell: (row) => fmt.count(row.events) },
    { name: "Opened", num: true, cell: (row) => fmt.percent(row.rate) },
    { name: "Said", num: true, cell: (row) => fmt.percent(row.predicted) },
    { name: "Calibration", num: true, cell: (row) => fmt.number(row.calibration) },
    { name: "Entropy", num: true, optional: true, cell: (row) => fmt.number(row.normalised_entropy) },
  ], judged, "The model by kind of device"));
}

function standing(row) {
  if (row.alarms.length) return row.alarms.map((each) => el("span", { class: "tag bad" }, ALARMS[each] ?? each));
  return el("span", { class: `tag ${row.status === "healthy" ? "ok" : ""}` }, row.status === "healthy" ? "right" : "too few yet");
}

function shift({ status }) {
  const rows = Object.entries(status.shift ?? {}).map(([name, each]) => ({ name, ...each }));
  rows.sort((a, b) => (b.index ?? -1) - (a.index ?? -1));
  if (!rows.length) return put($("shift"), note("Nothing to compare with yet", "The first 5,000 outcomes are what later ones are held against."));
  put($("shift"), table([
    { name: "Feature", cell: (row) => row.name.replaceAll("_", " ") },
    { name: "", cell: (row) => el("span", { class: `tag ${SHIFT_KIND[row.level] ?? ""}` }, row.level === "unknown" ? "too few yet" : row.level) },
    { name: "Index", num: true, cell: (row) => fmt.number(row.index) },
  ], rows, "How far features have moved"));
}

// ---- The page

function show(found) {
  const { status, words } = found;
  const learned = status.model === "learned";
  $("instead").hidden = learned;
  $("all").hidden = !learned;
  put($("serving"), learned
    ? [el("span", { class: "muted" }, "ranks by "), words[status.rung], el("span", { class: "muted" }, `, version ${fmt.count(status.version)}`), status.decisions_fault && el("span", { class: "tag bad" }, status.decisions_fault)]
    : []);
  if (learned) for (const each of [tiles, ladder, publishers, cohorts, shift]) each(found);
  else put($("instead"), note(`This server ranks by ${status.model}`, "It learns nothing. With ranking.model = 'learned' it would."));
  document.body.dataset.shown = "yes";
}

async function ask() {
  const [found, history] = await Promise.all([get("/api/v1/model"), get("/api/v1/model/history")]);
  show(found);
  history.one = history.at.map(() => 1);
  right.set(history);
  drift.set(history);
}

header();
poll(ask, 5);
