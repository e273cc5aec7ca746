// The newest items, each with what was counted of it.

import { $, el, fmt, get, header, note, poll, put, table } from "./common.js";
import { ago, itemLink, keepFocus, payload, priority, rough, shown } from "./feed.js";

const words = el("input", { type: "search", placeholder: "Part of an id or a channel", "aria-label": "Part of an id or a channel", spellcheck: "false",
  value: new URLSearchParams(location.search).get("search") ?? "" });
const count = el("span", { class: "muted" });
const list = el("section", { class: "panel", "aria-label": "Items" }, note("Looking…"));
put($("page"), el("div", { class: "heading" }, el("h1", {}, "Items"), count, words), list);

let moment = 0;
const zero = (value) => (value ? fmt.count(value) : el("span", { class: "muted" }, "0"));

const columns = [
  { name: "Item", cell: (item) => el("div", {},
    el("div", { class: "line" }, priority(item.priority), item.payload ? payload(item.payload) : el("span", { class: "muted" }, "its content is gone")),
    el("div", { class: "small" }, itemLink(item.channel, item.id), el("span", { class: "muted" }, ` on ${item.channel}`))) },
  { name: "State", optional: true, cell: (item) => stateOf(item) },
  { name: "Published", optional: true, num: true, cell: (item) => el("span", { title: fmt.moment(item.published) }, ago(item.published, moment)) },
  { name: "Delivered", num: true, cell: (item) => zero(item.counts.delivered) },
  { name: "Acknowledged", optional: true, num: true, cell: (item) => zero(item.counts.acknowledged) },
  { name: "Shown", optional: true, num: true, cell: (item) => zero(item.counts.shown) },
  { name: "Opened", num: true, cell: (item) => zero(item.counts.opened) },
  { name: "Dismissed", optional: true, num: true, cell: (item) => zero(item.counts.dismissed) },
];

function stateOf(item) {
  if (item.ended) return el("span", { class: "tag" }, item.state);
  return item.state === "offering" ? el("span", { class: "tag accent" }, "on its way") : el("span", { class: "nowrap" }, `leaves in ${rough(item.expires - moment)}`);
}

async function look() {
  const asked = words.value.trim();
  const found = await get(`/api/v1/items?search=${encodeURIComponent(asked)}`);
  if (asked !== words.value.trim()) return; // another question is on its way
  moment = found.now;
  put(count, asked ? `${fmt.count(found.found)} of ${fmt.of(found.remembered, "item")}` : `${fmt.of(found.remembered, "item")} remembered, the newest first`);
  if (!found.remembered) put(list, note("No item has been published yet", "'fleetfeed publish CHANNEL TEXT' publishes one."));
  else if (!found.items.length) put(list, note("No item of that name", "Those that are over are remembered for a while, and then forgotten."));
  else keepFocus(list, () => put(list, rows(found.items)));
  shown();
}

function rows(items) {
  const made = table(columns, items, "Items, the newest first");
  made.querySelectorAll("tbody tr").forEach((row, at) => {
    row.firstElementChild.classList.add("item");
    row.classList.toggle("over", Boolean(items[at].ended));
  });
  return made;
}

header().then((page) => poll(look, 2 * (page?.refresh ?? 1)));
words.addEventListener("input", () => {
  const asked = words.value.trim();
  history.replaceState(null, "", asked ? `?search=${encodeURIComponent(asked)}` : location.pathname);
  look().catch(() => {}); // the next round says what is wrong
});
