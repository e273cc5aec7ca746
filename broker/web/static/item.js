// The receipt of one item, counting up while it is looked at.

import { $, el, fmt, get, header, note, poll, put } from "./common.js";
import { PRIORITIES, ago, payload, renew, rough, shown } from "./feed.js";
import { framesSaid, funnel } from "./receipt.js";
import { retraction } from "./retract.js";

const query = new URLSearchParams(location.search);
const path = location.pathname.slice("/item".length);
const asked = query.has("id") ? `/api/v1/item?${query}` : `/api/v1/item${path}`;

const title = el("h1", {}, "Item"), state = el("p", { class: "muted", role: "status" });
const content = el("section", { class: "panel", "aria-label": "Content" });
const receipt = el("section", { class: "panel", "aria-label": "Receipt" });
const facts = el("section", { class: "panel", "aria-label": "Facts" });
const retract = el("span", { class: "retract" });
let there = false, may = false, expires = 0;

function show(found) {
  expires = found.expires - found.now;
  if (!there) {
    there = true;
    document.title = `${found.id} · fleetfeed`;
    put($("page"), el("div", { class: "heading" }, title, state, retract),
      el("div", { class: "grid" }, el("div", { class: "two-thirds" }, receipt), el("div", { class: "third column" }, content, facts)));
  }
  put(title, found.id);
  put(state, `on ${found.channel}, ${stateOf(found)}`);
  renew(retract, [may && !found.ended], () => put(retract, may && !found.ended && retraction(found, () => expires)));
  renew(content, [found.payload, found.brief], () => put(content, el("header", {}, el("h2", {}, "What devices show")),
    found.payload ? payload(found.payload, { full: true }) : el("p", { class: "muted" }, "Its content is gone: the item is over."),
    found.brief && [el("h3", {}, "To those with small packets"), payload(found.brief, { full: true })]));
  renew(receipt, [found.census, found.counts, found.ended], () => put(receipt, el("header", {}, el("h2", {}, "How far it got"), el("span", { class: "muted" }, "of the devices that were here lately")),
    found.census?.followers === 0 ? note("No device follows its channel", "Those that were not here for long are not counted.") : funnel(found),
    el("p", { class: "aside" }, framesSaid(found.counts))));
  renew(facts, [found.version, found.expires, found.ended, found.publisher], () => put(facts, el("header", {}, el("h2", {}, "The item")),
    el("dl", { class: "facts" }, [
      ["Priority", PRIORITIES[found.priority]],
      ["Published", fmt.moment(found.published)],
      ["By", found.publisher || (found.publisher === "" ? "nobody vouched for a name" : "–")],
      [found.ended ? "Ended" : "Leaves", found.ended ? fmt.moment(found.ended) : fmt.moment(found.expires)],
      ["Number", `${found.n}, content ${found.version}`],
      ["Counted since", fmt.moment(found.counted_since)],
    ].map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]))));
}

function stateOf(found) {
  if (found.ended) return `${found.state} ${ago(found.ended, found.now)}`;
  const left = `published ${ago(found.published, found.now)}, leaves in ${rough(found.expires - found.now)}`;
  return found.state === "offering" ? `${left}, still on its way` : left;
}

const begun = header();
try {
  const page = await begun;
  may = page?.send ?? false;
  show(await get(asked));
  poll(async () => show(await get(asked)), page?.refresh ?? 1);
} catch (error) {
  put($("page"), note("No receipt of this item", error.message, "bad"));
}
shown();
