// Taking an item out of every feed: asked first, with how many would lose it.

import { el, fmt, post, put } from "./common.js";

const DAY = 86400, LONGEST = 30 * DAY; // seconds that a retraction is remembered: by default, and at most

/**
 * A button that retracts one item, after a question.
 * @param {{channel: string, id: string}} item which.
 * @param {() => number} left seconds until the item would leave by itself: the retraction stays for as long, so that
 *     a publisher who repeats the item late does not bring it back.
 */
export function retraction({ channel, id }, left = () => 0) {
  const asked = () => ({ channel, item: { id, retract: true, ttl: Math.min(Math.max(Math.ceil(left()), DAY), LONGEST) } });
  const words = el("p", { role: "status" });
  const wrong = el("p", { class: "wrong", role: "alert" });
  const go = el("button", { type: "button", class: "danger", onclick: retract }, "Retract it");
  const keep = el("button", { type: "button", onclick: () => dialog.close() }, "Keep it");
  const dialog = el("dialog", { "aria-labelledby": "retract-title" },
    el("h2", { id: "retract-title" }, `Take “${id}” out of every feed?`), words, wrong, el("div", { class: "actions" }, go, keep));
  const button = el("button", { type: "button", onclick: ask }, "Retract…");
  dialog.addEventListener("close", () => dialog.remove());

  async function ask() {
    document.body.append(dialog);
    put(words, "Looking who has it…");
    put(wrong);
    go.disabled = true; // so that the keyboard is at the other one: a key too many changes nothing
    dialog.showModal();
    await attempt(async () => {
      const { held, places, devices } = await post("/api/v1/items/trial", asked());
      if (held !== "live") throw new Error("It is not there any more, or was retracted already.");
      put(words, devices.following === 0 ? "No device that was here lately has it in its window."
        : `${fmt.of(places.seen, "device")} that ${places.seen === 1 ? "shows" : "show"} it would lose it. It cannot be taken back: to show it again, it has to be published again.`);
      go.disabled = false;
    });
  }

  async function retract() {
    go.disabled = true;
    await attempt(async () => {
      await post("/api/v1/items", asked());
      button.disabled = true;
      put(button, "Retracted");
      dialog.close();
    });
  }

  async function attempt(act) {
    try {
      await act();
    } catch (error) {
      put(wrong, error.message);
    }
  }

  return button;
}
