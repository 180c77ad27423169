// Everything that a user can do, once: toolbar, shortcut list and keyboard read it here.

/**
 * Return the registry of commands. A command is {id, title, keys: ["Mod+Z"], run, enabled?, group?}.
 *
 * Keys are names as in KeyboardEvent.key, after "Mod+" (Ctrl, or ⌘ on a Mac), "Shift+" and "Alt+".
 */
export function createCommands() {
  const commands = new Map();
  return {
    add(command) {
      if (commands.has(command.id)) throw new Error(`two commands are called ${command.id}`);
      commands.set(command.id, { keys: [], enabled: () => true, group: "Other", ...command });
    },
    get: (id) => commands.get(id),
    all: () => [...commands.values()],
    run(id) {
      const command = commands.get(id);
      if (command?.enabled()) command.run();
    },
    /** Run the command of a key press, if there is one; return whether there was. */
    handle(event) {
      if (isText(event.target) && !event.ctrlKey && !event.metaKey && event.key !== "Escape") return false;
      const key = keyName(event);
      const command = [...commands.values()].find((each) => each.keys.includes(key) && each.enabled());
      if (!command) return false;
      event.preventDefault();
      command.run();
      return true;
    },
  };
}

function keyName(event) {
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const shift = event.shiftKey && (event.key.length > 1 || /[a-z]/i.test(event.key));
  return `${event.ctrlKey || event.metaKey ? "Mod+" : ""}${event.altKey ? "Alt+" : ""}${shift ? "Shift+" : ""}${key}`;
}

function isText(element) {
  return element?.matches?.("input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]") ?? false;
}
