// The buttons beside the name of what the panel shows.

import { h } from "../ui/dom.js";
import { iconButton } from "./buttons.js";
import { isGroupKey } from "./group_view.js";

/** Return the buttons of a node, an edge or a group; a group cannot be pinned. */
export function subjectActions({ app, selection }, name) {
  const isPinned = selection.isPinned(name);
  const run = (command) => () => app.commands.run(`panel.${command}`);
  return h("span", { class: "subject-actions" },
    selection.canGoBack && iconButton("back", "Back", "down", run("back")),
    iconButton("copy", `Copy the name ${name}`, "copy", run("copy")),
    !isGroupKey(name) && iconButton("pin", isPinned ? "Unpin" : "Pin", "pin", run("pin"), { "aria-pressed": String(isPinned) }));
}
