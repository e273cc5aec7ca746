// A receipt as a drawing: how many devices an item was for, how far it got, and where the others were lost.

import { el, fmt } from "./common.js";
import { DROPPED } from "./feed.js";

/** What is lost between a step and the one before it, by the names that censuses have. */
const LOST = {
  eligible: ["where", "dismissed", "oversize"],
  admitted: ["collapsed", "outranked", "reserve", "pending"],
  sent: ["expired", "retracted"],
  held: ["evicted"],
};
const LATER = new Set(["reserve", "pending"]); // not lost: it may still come to them

/**
 * The funnel of a receipt, as `item.show` answers.
 * @param {object} found the receipt.
 */
export function funnel(found) {
  const { census, counts } = found;
  if (census === null)
    return el("div", {}, el("p", { class: "muted" }, "When it ended there was no time to look who had it; what was counted:"), steps(reported(counts), Math.max(counts.delivered, 1), {}));
  const over = Boolean(found.ended);
  const rows = [
    ["followers", "Follow its channel", ""],
    ["eligible", "It is for them", "and it fits"],
    ["admitted", "Took it in", "into their windows"],
    ["sent", "Were sent it", ""],
    ["held", over ? "Had it at its end" : "Have it now", "confirmed"],
  ].map(([name, step, more]) => ({ name, step, more, count: census[name] }));
  return steps([...rows, ...reported(counts)], census.followers, { ...census.dropped, reserve: census.reserve, pending: census.pending });
}

const reported = (counts) => [
  { name: "shown", step: "Showed it", more: "as they report", count: counts.shown, reported: true },
  { name: "opened", step: "Opened it", more: "", count: counts.opened, reported: true },
  { name: "dismissed", step: "Dismissed it", more: "", count: counts.dismissed, reported: true },
];

function steps(rows, whole, dropped) {
  return el("ol", { class: "funnel" }, rows.map((row) => {
    const share = whole > 0 ? Math.min(row.count / whole, 1) : 0;
    const lost = (LOST[row.name] ?? []).filter((reason) => dropped[reason]);
    return el("li", { class: row.reported ? "reported" : null },
      el("span", { class: "step" }, row.step, row.more && el("span", { class: "small" }, row.more)),
      el("span", { class: "through", role: "img", "aria-label": `${fmt.percent(share)} of those who follow its channel` }, el("i", { style: { width: `${100 * share}%` } })),
      el("span", { class: "count", dataset: { step: row.name } }, fmt.count(row.count)),
      el("span", { class: "share" }, whole > 0 ? fmt.percent(row.count / whole) : ""),
      lost.length > 0 && el("ul", { class: "lost" }, lost.map((reason) =>
        el("li", { class: LATER.has(reason) ? "later" : null }, el("b", {}, fmt.count(dropped[reason])), ` ${DROPPED[reason] ?? reason}`))));
  }));
}

/** What was counted in frames, in a sentence. */
export function framesSaid(counts) {
  if (!counts.delivered) return "No frame has brought it yet.";
  return `${fmt.of(counts.delivered, "frame")} brought it, those of earlier contents and after reconnects among them; ${fmt.count(counts.acknowledged)} of these were acknowledged, which at QoS 0 none is.`;
}
