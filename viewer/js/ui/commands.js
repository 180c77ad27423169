// Everything that a user can do, once: toolbars, menu, shortcut list and keyboard read it here.

import { printable } from "../data/visible.js";

/**
 * Return the registry of commands. `add` takes a command:
 *
 *   id        unique name
 *   title     what it does, in words: a text, or a function of the present ("Undo: group 3 nodes")
 *   run       does it
 *   keys      names as in KeyboardEvent.key after "Mod+" (Ctrl, or ⌘ on a Mac), "Shift+" and "Alt+": ["Mod+Z"]; letters are capitals
 *   repeats   true for one that runs again and again while its key is held
 *   enabled   returns whether it can run now
 *   pressed   returns whether it is on, for a command that switches something
 *   group     heading in the list of shortcuts and in the menu
 *   toolbar   where it has a button: "edit" (the bar), "view" (over the circuit) or "page" (the header)
 *   icon      name of a shape in ui/icons.js for that button, or a function; without one the button shows the title
 */
export function createCommands() {
  const commands = new Map();
  const listeners = new Set();
  let isWaiting = false; // many changes at once are told once
  const registry = {
    add(command) {
      if (commands.has(command.id)) throw new Error(`two commands are called ${command.id}`);
      commands.set(command.id, { keys: [], enabled: () => true, group: "Other", ...command });
      registry.refresh();
    },
    get: (id) => commands.get(id),
    all: () => [...commands.values()],
    run(id) {
      const command = commands.get(id);
      if (command?.enabled()) command.run();
    },
    /** Tell those that show commands that titles, `enabled` or `pressed` may have changed. */
    refresh() {
      if (isWaiting) return;
      isWaiting = true;
      queueMicrotask(() => {
        isWaiting = false;
        listeners.forEach((listener) => listener());
      });
    },
    subscribe: (listener) => listeners.add(listener),
    /** Run the command of a key press, if there is one; return whether there was. */
    handle(event) {
      if (event.defaultPrevented || isForElement(event) || document.querySelector("dialog:modal, :popover-open")) return false;
      const key = keyName(event);
      const command = registry.all().find((each) => each.keys.includes(key) && each.enabled());
      if (!command) return false;
      event.preventDefault();
      if (command.repeats || !event.repeat) command.run();
      return true;
    },
  };
  return registry;
}

/** Return the title of a command now. */
export function titleOf({ title }) {
  return printable(typeof title === "function" ? title() : title);
}

/** Return the keys of a command as people write them: "Ctrl+Z", "⌘Z". */
export function shownKey(key) {
  const isMac = /mac|iphone|ipad/i.test(navigator.platform);
  const names = { Mod: isMac ? "⌘" : "Ctrl", Shift: isMac ? "⇧" : "Shift", Alt: isMac ? "⌥" : "Alt", ...ARROWS, " ": "Space", Escape: "Esc" };
  const parts = key === "+" ? ["+"] : key.split(/\+(?!$)/);
  return parts.map((part) => names[part] ?? part).join(isMac ? "" : "+");
}

const ARROWS = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→" };

const TYPED_WITH_ALT = /^[^\p{L}\p{N}\s]$/u; // signs such as [ need Alt on some keyboards

function keyName(event) {
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const shift = event.shiftKey && (event.key.length > 1 || /[a-z]/i.test(event.key));
  const alt = event.altKey && !TYPED_WITH_ALT.test(key);
  return `${event.ctrlKey || event.metaKey ? "Mod+" : ""}${alt ? "Alt+" : ""}${shift ? "Shift+" : ""}${key}`;
}

const TEXT_FIELD = "input:not([type=checkbox], [type=radio], [type=button], [type=range]), textarea, select, [contenteditable]";

/** True for a key press that belongs to the element with the focus: typing into a field, pressing a button. */
function isForElement({ key, target, ctrlKey, metaKey }) {
  if (ctrlKey || metaKey) return /^[acvxyz]$/i.test(key) && (target.matches?.(TEXT_FIELD) ?? false);
  if (target.matches?.("input[type=range]")) return /^(Arrow|Page|Home|End)/.test(key);
  if (target.matches?.(TEXT_FIELD)) return key !== "Escape";
  return (key === "Enter" || key === " ") && Boolean(target.closest?.("button, a[href], summary, [role=tab], [role=row]"));
}
