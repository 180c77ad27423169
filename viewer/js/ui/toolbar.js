// Toolbars: a button for every command that names one.

import { shownKey, titleOf } from "./commands.js";
import { h, replaceChildren } from "./dom.js";
import { icon } from "./icons.js";
import { roving } from "./roving.js";

/** Fill an element with the buttons of the commands whose `toolbar` is `name`, now and whenever commands change. */
export function mountToolbar(app, element, name) {
  const buttons = new Map();
  const refreshFocus = roving(element);
  app.commands.subscribe(() => {
    const commands = app.commands.all().filter((command) => command.toolbar === name);
    if (commands.length !== buttons.size) {
      for (const command of commands) if (!buttons.has(command)) buttons.set(command, toolButton(command));
      replaceChildren(element, withRules(commands, buttons));
    }
    buttons.forEach((button, command) => update(button, command));
    refreshFocus();
  });
}

/** Return the button of a command. */
function toolButton(command) {
  const button = h("button", { type: "button", class: command.icon ? "icon-button" : "quiet", dataset: { command: command.id }, onclick: () => command.enabled() && command.run() });
  update(button, command);
  return button;
}

function update(button, command) {
  const title = titleOf(command);
  button.setAttribute("aria-disabled", String(!command.enabled())); // `disabled` would take the focus away
  button.title = command.keys.length ? `${title} (${shownKey(command.keys[0])})` : title;
  const shape = typeof command.icon === "function" ? command.icon() : command.icon;
  if (shape) button.setAttribute("aria-label", title);
  const shown = shape ?? title;
  if (button.dataset.shown !== shown) replaceChildren(button, shape ? icon(shape) : title).dataset.shown = shown;
  if (command.pressed) button.setAttribute("aria-pressed", String(command.pressed()));
}

/** Return buttons with a rule between those of different groups. */
function withRules(commands, buttons) {
  return commands.flatMap((command, at) => {
    const rule = at > 0 && commands[at - 1].group !== command.group && h("span", { class: "tool-rule" });
    return [rule, buttons.get(command)];
  });
}
