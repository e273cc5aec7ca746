// Drawings: uPlot with the sheet's colours, a legend that tells numbers, and its size from where it stands.

import { el, put, text } from "/static/common.js";

const { uPlot } = window;
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const faint = (name, share) => `color-mix(in srgb, ${colour(name)} ${share}%, transparent)`;

/**
 * Draws columns over time.
 * @param {HTMLElement} node where.
 * @param {object} options
 *     series: [{name (of its column), label, colour (of the sheet: "c1"), fill (percent), dash, width, scale, quiet}],
 *         quiet ones have no place in the legend;
 *     scales: {name: {format, log, right, colour, least}}; the first is the one with the grid;
 *     bands: [[upper, lower, colour]] by names of columns;
 *     legend: [{label, colour, value(at) → text}] in the place of one entry for each series; `at` looks a column up;
 *     span: seconds that are shown; height; sync: charts of one name have one cursor.
 * @returns {{set: (columns: object) => void}} draws these columns; `at` holds Unix seconds.
 */
export function chart(node, options) {
  const { series, scales, bands = [], span = 600, least = 120, height = 190, sync = "page" } = options;
  const entries = options.legend ?? series.filter((each) => !each.quiet).map((each) => ({
    label: each.label, colour: each.colour, value: (look) => scales[each.scale].format(look(each.name)),
  }));
  const values = entries.map(() => el("b"));
  const legend = el("ul", { class: "legend" }, entries.map((each, index) =>
    el("li", {}, el("span", { class: `key ${each.colour}` }), each.label, values[index])));
  const field = el("div", { class: "field" });
  put(node, legend, field);

  let columns = null, plot = null, cursor = null;

  function tell() {
    const at = cursor ?? columns.at.length - 1;
    const look = (name) => columns[name]?.[at] ?? null;
    entries.forEach((each, index) => text(values[index], columns.at.length ? each.value(look) : "–"));
  }
  function data() {
    return [columns.at, ...series.map((each) => columns[each.name])];
  }
  function range() {
    const { at } = columns;
    const last = at.length ? at[at.length - 1] : Date.now() / 1000;
    const shown = at.length ? Math.min(Math.max(last - at[0], least), span) : span;
    return [last - shown, last];
  }
  function build() {
    plot?.destroy();
    const at = (name) => 1 + series.findIndex((each) => each.name === name);
    const quiet = { stroke: colour("muted"), font: "11px system-ui, sans-serif", ticks: { show: false }, border: { show: false } };
    const grid = { stroke: colour("line"), width: 1 };
    plot = new uPlot({
      width: Math.max(field.clientWidth, 200), height,
      padding: [8, 4, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: sync }, y: false, drag: { x: false, y: false }, points: { size: 6, width: 0 } },
      scales: { x: { time: true, range }, ...Object.fromEntries(Object.entries(scales).map(([name, scale]) => [name, scaled(scale)])) },
      axes: [
        { ...quiet, grid: { show: false }, size: 24, space: 70, values: "{HH}:{mm}", incrs: [60, 120, 300, 600, 1800, 3600, 7200] },
        ...Object.entries(scales).map(([name, scale], index) => ({
          ...quiet, scale: name, side: scale.right ? 1 : 3, size: scale.size ?? 46, gap: 4, space: 34,
          stroke: scale.colour ? colour(scale.colour) : quiet.stroke,
          grid: index ? { show: false } : scale.log ? { ...grid, filter: powers } : grid,
          values: (_, splits) => splits.map((each) => (each === null ? "" : (scale.tick ?? scale.format)(each))),
          ...(scale.log ? { filter: powers } : {}),
        })),
      ],
      series: [{}, ...series.map((each) => ({
        scale: each.scale, width: each.width ?? 1.5, dash: each.dash,
        stroke: each.width === 0 ? undefined : colour(each.colour),
        fill: each.fill ? faint(each.colour, each.fill) : undefined,
        points: { show: false }, spanGaps: false,
      }))],
      bands: bands.map(([upper, lower, name]) => ({ series: [at(upper), at(lower)], fill: faint(name, 16) })),
      hooks: { setCursor: [(u) => { cursor = u.cursor.idx ?? null; tell(); }] },
    }, data(), field);
  }

  new ResizeObserver(() => plot?.setSize({ width: Math.max(field.clientWidth, 200), height })).observe(node);
  dark.addEventListener("change", () => columns && build());
  return {
    set(found) {
      columns = found;
      if (plot === null) build();
      else plot.setData(data());
      tell();
    },
  };
}

/** A small line without axes: how a number moved, each step of the line the highest of its part. */
export function spark(values, { width = 52, height = 20, steps = 52 } = {}) {
  const part = Math.max(Math.ceil(values.length / steps), 1);
  const highest = [];
  for (let from = 0; from < values.length; from += part) highest.push(Math.max(...values.slice(from, from + part).map((each) => each ?? 0)));
  if (highest.length < 2) return null;
  const top = Math.max(...highest) || 1;
  const path = highest.map((each, index) =>
    `${((index * width) / (highest.length - 1)).toFixed(1)},${(height - 1 - ((height - 2) * each) / top).toFixed(1)}`);
  return el("svg:svg", { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    el("svg:polyline", { points: path.join(" ") }));
}

function scaled(scale) {
  if (scale.log) return { distr: 3, range: (_, low, high) => (low > 0 && high > 0 ? [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high) + 1e-9)] : [0.001, 1]) };
  return { range: (_, low, high) => [scale.low ?? 0, Math.max((high ?? 0) * 1.12, scale.least ?? 1)] };
}

/** Of a logarithmic axis only 1, 10, 100 …, and 3, 30 … if it is short, are named. */
function powers(u, splits) {
  const few = splits.length < 22;
  return splits.map((each) => {
    const first = Number(each.toExponential(0)[0]);
    return first === 1 || (few && first === 3) ? each : null;
  });
}
