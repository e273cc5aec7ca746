// Sending one item: a dry run says who would get it, then it goes, and its receipt counts up.

import { $, el, fmt, get, header, note, post, put, stack } from "./common.js";
import { DROPPED, PRIORITIES, deviceHref, itemHref, itemLink, shown } from "./feed.js";
import { framesSaid, funnel } from "./receipt.js";
import { retraction } from "./retract.js";

const OUTCOMES = {
  new: "It would be a new item.",
  update: "It would be a new content of the item that is there.",
  unchanged: "Just that is there already: it would change nothing.",
  stale: "What is there is newer: it would change nothing.",
  retract: "It would take the item out of every feed.",
};
const GONE = "There is nothing to take out: it would only keep the item from coming back late.";
const UNITS = [["minutes", 60], ["hours", 3600], ["days", 86400]];
const FOLLOWED = 120_000; // milliseconds for which a receipt counts up here

const field = (name, control, wide = false) => el("label", { class: wide ? "wide" : null }, el("span", { class: "name" }, name), control);
const input = (props) => el("input", { autocomplete: "off", spellcheck: "false", ...props });
const own = () => `page-${new Date().toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-")}`;

const channel = input({ required: true, maxlength: 256, placeholder: "alerts/weather/ca", value: new URLSearchParams(location.search).get("channel") ?? "" });
const id = input({ required: true, maxlength: 64, value: own(), title: "The same id again on this channel is an update" });
const text = el("textarea", { required: true, placeholder: "What devices show" });
const level = el("select", {}, PRIORITIES.map((name, at) => el("option", { value: at, selected: at === 1 }, name)));
const amount = input({ type: "number", min: 1, max: 100000, required: true, value: 24 });
const unit = el("select", { "aria-label": "Unit of the time" }, UNITS.map(([name, seconds]) => el("option", { value: seconds, selected: seconds === 3600 }, name)));
const brief = input({ placeholder: "For devices with small packets" });
const tags = input({ placeholder: "sport, local" });
const collapse = input({ placeholder: "Of one key, a window keeps the newest" });
const where = input({ placeholder: "region=ca, region=or, model=m2" });
const wrong = el("p", { class: "wrong", role: "alert" });
const dry = el("button", { type: "submit" }, "Who would get it?");
const go = el("button", { type: "button", class: "primary", disabled: true }, "Send");
const result = el("div", { class: "column" });

function form() {
  const made = el("form", { class: "panel", "aria-label": "Item" },
    el("div", { class: "fields" },
      field("Channel", channel), field("Id", id),
      field("Text", text, true),
      field("Priority", level), field("It leaves every feed after", el("span", { class: "twin" }, amount, unit))),
    el("details", {}, el("summary", {}, "Briefer text, tags, and whom it is for"),
      el("div", { class: "fields" }, field("Briefer text", brief), field("Tags", tags), field("Collapse key", collapse), field("Only devices that are", where))),
    wrong,
    el("div", { class: "actions" }, dry, go, el("span", { class: "muted small" }, "The dry run sends nothing.")));
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    tryOut();
  });
  // What was tried out is not what stands there any more.
  made.addEventListener("input", () => (go.disabled = true));
  go.addEventListener("click", send);
  return made;
}

function asked() {
  const item = { id: id.value.trim(), payload: text.value, priority: Number(level.value), ttl: Math.round(Number(amount.value) * Number(unit.value)) };
  if (brief.value) item.brief = brief.value;
  const named = tags.value.split(",").map((each) => each.trim()).filter(Boolean);
  if (named.length) item.tags = named;
  if (collapse.value.trim()) item.collapse = collapse.value.trim();
  const conditions = conditionsOf(where.value);
  if (Object.keys(conditions).length) item.where = conditions;
  return { channel: channel.value.trim(), item };
}

/** `name=value` pairs; a whole number is meant as number or as text, whichever a device has. */
function conditionsOf(said) {
  const found = {};
  for (const pair of said.split(",").map((each) => each.trim()).filter(Boolean)) {
    const at = pair.indexOf("=");
    if (at < 1 || at === pair.length - 1) throw new Error(`“${pair}” is not name=value.`);
    const value = pair.slice(at + 1).trim();
    const values = (found[pair.slice(0, at).trim()] ??= []);
    values.push(value);
    if (/^-?\d+$/.test(value) && String(Number(value)) === value) values.push(Number(value));
  }
  return found;
}

/** Does something with the item as it stands in the form; what goes wrong is said under it. */
async function attempt(button, act) {
  put(wrong);
  button.disabled = true;
  try {
    await act(asked());
  } catch (error) {
    put(wrong, error.message);
  } finally {
    if (button === dry) dry.disabled = false;
  }
}

const tryOut = () => attempt(dry, async (what) => {
  const found = await post("/api/v1/items/trial", what);
  put(result, trial(found));
  go.disabled = JSON.stringify(what) !== JSON.stringify(asked());
});

const send = () => attempt(go, async (what) => {
  const found = await post("/api/v1/items", what);
  const receipt = el("section", { class: "panel sent", "aria-label": "Receipt" }, note("Sent, and stored"));
  // Beside what is drawn anew each second: the button keeps the keyboard.
  const undo = el("p", { class: "small" }, retraction(found, () => what.item.ttl));
  put(result, receipt, found.outcome !== "retract" && undo);
  if (id.value.trim() === found.id && found.id.startsWith("page-")) id.value = own();
  follow(found, receipt);
});

function follow(sent, receipt) {
  const until = Date.now() + FOLLOWED, every = 1000 * (page?.refresh ?? 1);
  const path = itemHref(sent.channel, sent.id);
  async function round() {
    if (!receipt.isConnected || Date.now() > until) return;
    try {
      const found = await get(`/api/v1${path}`);
      put(receipt,
        el("header", {}, el("h2", {}, "Sent: ", itemLink(sent.channel, sent.id)), el("span", { class: "muted" }, `on ${sent.channel}, stored ${fmt.duration(found.now - found.published)} ago`)),
        found.census?.followers === 0 ? note("No device follows its channel", "It is stored, and waits for those that come.") : funnel(found),
        el("p", { class: "aside" }, framesSaid(found.counts)));
    } catch (error) {
      // It is stored, and has not had its turn yet: a server under load lets it wait.
      put(receipt, note("Sent, and stored", error.status === 400 ? "It is on its way." : error.message));
    }
    setTimeout(round, every);
  }
  setTimeout(round, every);
}

// ---- What a dry run found

/** Where devices that follow the channel would stand, in the order of the bar. */
const PLACES = [["seen", "c1"], ["held_back", "c3"], ["reserve", "c2"], ["pending", "c6"], ["outranked", "c4"], ["collapsed", "c5"]];
const PLACE_WORDS = { seen: "would show it", held_back: "would show it later: their budget is used up, or it is quiet there", reserve: "have it next in line", outranked: "show better items" };
const SAMPLE_WORDS = { outranked: "shows better items", reserve: "next in line", pending: "its window is being built anew" };

function trial(found) {
  const { devices, places, away, samples } = found;
  const gone = found.outcome === "retract";
  const kept = { where: devices.where, dismissed: devices.dismissed, oversize: devices.oversize };
  const counted = { ...places, seen: places.seen - places.held_back };
  const parts = [
    ...PLACES.map(([name, kind]) => ({ name, class: kind, count: counted[name], words: PLACE_WORDS[name] ?? DROPPED[name] })),
    ...Object.entries(kept).map(([name, count]) => ({ name, class: "c0", count, words: `would not get it: ${DROPPED[name]}` })),
  ].filter((part) => part.count > 0);
  const line = (count, words) => count > 0 && el("li", {}, el("b", {}, fmt.count(count)), el("span", {}, words));
  return el("section", { class: "panel", "aria-label": "Dry run" },
    el("header", {}, el("h2", {}, "Dry run: nothing was sent"), el("span", { class: "muted" }, gone && found.held !== "live" ? GONE : OUTCOMES[found.outcome])),
    el("p", { class: "big" }, fmt.count(places.seen), el("span", { class: "muted small" }, ` of ${fmt.of(devices.following, "device")} that follow the channel would ${gone ? "lose" : "show"} it`)),
    parts.length > 0 && [
      stack(parts.map((part) => ({ class: part.class, share: part.count / devices.following, title: `${fmt.count(part.count)} ${part.words}` })), "Where it would stand"),
      el("ul", { class: "legend" }, parts.map((part) => el("li", {}, el("span", { class: `key ${part.class}` }), el("b", {}, fmt.count(part.count)), part.words))),
    ],
    el("ul", { class: "plain" },
      line(places.first, "as the first in their windows"),
      places.median !== null && el("li", {}, el("b", {}, places.median), el("span", {}, "is the place in the middle of all that would show it")),
      line(devices.connected, "are connected now"),
      line(devices.shorter_form, "would be sent the briefer text"),
      line(away.eligible, "more that it is for have not been here for long")),
    samples.length > 0 && [el("h3", {}, "Some of them, the best place first"), el("ul", { class: "plain" }, samples.map((each) =>
      el("li", {}, el("b", {}, each.place === null ? "–" : `${each.place} of ${each.k}`),
        el("span", {}, el("a", { href: deviceHref(each.device) }, each.device),
          el("span", { class: "muted" }, each.place === null ? `: ${SAMPLE_WORDS[each.why_not] ?? DROPPED[each.why_not] ?? each.why_not}` : "", each.connected ? "" : ", not connected")))))],
    devices.following === 0 && el("p", { class: "muted" }, "No device that was here lately follows this channel."));
}

const page = await header();
document.title = "Send · fleetfeed";
if (page !== null && !page.send) put($("page"), note("This page may not publish items", "Set http.send = true on the server to allow it; 'fleetfeed publish' works without."));
else {
  put($("page"), el("div", { class: "heading" }, el("h1", {}, "Send an item"), el("p", { class: "muted" }, "To all devices that follow its channel, each at the place that it deserves there.")),
    el("div", { class: "grid sending" }, el("div", { class: "half" }, form()), el("div", { class: "half" }, result)));
  put(result, el("section", { class: "panel" }, note("Nothing tried out yet", "Say what to send, and see who would get it.")));
  (channel.value ? text : channel).focus();
}
shown();
