// What the pages of devices and items share: links, priorities, payloads, and words for both.

import { el, fmt } from "./common.js";

export const PRIORITIES = ["low", "normal", "high", "urgent"];

/** What a device or an item did not get through, in words. */
export const DROPPED = {
  where: "their attributes do not match",
  dismissed: "dismissed it",
  oversize: "it does not fit their frames",
  collapsed: "a newer item of its collapse key stands in its place",
  outranked: "show better items",
  evicted: "had it, and better items pushed it out",
  expired: "it expired before it was sent",
  retracted: "it was retracted before it was sent",
  reserve: "next in line",
  held_back: "get it later: their budget is used up, or it is quiet there",
  pending: "their feeds are being built anew",
};

/** The page of a device. */
export const deviceHref = (device) => `/device/${encodeURIComponent(device)}`;

/** The page of an item. What a path cannot say, as browsers shorten it, is asked for by query. */
export function itemHref(channel, id) {
  const parts = [...channel.split("/"), id];
  if (id.includes("/") || parts.some((part) => part === "" || part === "." || part === ".."))
    return `/item?${new URLSearchParams({ channel, id })}`;
  return `/item/${parts.map(encodeURIComponent).join("/")}`;
}

/** A link to an item. */
export const itemLink = (channel, id, words = id) => el("a", { href: itemHref(channel, id) }, words.trim() === "" ? `“${words}”` : words);

/** A priority as a tag; the usual one says nothing. */
export function priority(level, always = false) {
  if (level === null || level === undefined || (level === 1 && !always)) return null;
  return el("span", { class: `tag ${level >= 2 ? "accent" : ""}` }, PRIORITIES[level] ?? String(level));
}

/** A payload for people: text, a map as JSON, other bytes as hex. */
export function payload(view, { full = false } = {}) {
  if (!view) return el("span", { class: "muted" }, "its content is gone");
  const said = view.text + (view.cut ? "…" : "");
  if (view.form === "text" && view.text.trim() === "") return el("span", { class: "muted" }, "no text");
  const size = view.form === "bytes" ? ` ${fmt.bytes(view.bytes)}` : "";
  const code = view.form !== "text";
  return el(full ? "div" : "span", { class: `payload ${full ? "full" : ""} ${code ? "mono" : ""}` },
    said, size && el("span", { class: "muted" }, size));
}

/** How long ago that was. */
export const ago = (unix, now) => `${fmt.duration(Math.max(now - unix, 0))} ago`;

/** A time that is left, in its largest unit alone: it is looked at again and again, and stays calm. */
export function rough(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (seconds >= 1.5 * size) return `${Math.round(seconds / size)} ${unit}`;
  return `${Math.max(Math.round(seconds), 0)} s`;
}

const drawn = new WeakMap();

/** Draws a node anew if what it shows is something else: what stays is left alone, and can be selected and read. */
export function renew(node, shows, draw) {
  const said = JSON.stringify(shows);
  if (drawn.get(node) === said) return;
  drawn.set(node, said);
  keepFocus(node, () => draw());
}

/** Changes a node under the keyboard's user, who stays at the link or the fold where they were. */
export function keepFocus(node, change) {
  const key = (each) => each.dataset.key ?? each.getAttribute("href");
  const at = node.contains(document.activeElement) ? key(document.activeElement) : null;
  change();
  if (at !== null) [...node.querySelectorAll("a, summary")].find((each) => key(each) === at)?.focus({ preventScroll: true });
}

/** The page has something to show, whatever it is: tests wait for it. */
export const shown = () => (document.body.dataset.shown = "");
