// Help: the list of shortcuts, which has all commands with keys, and the way to the tour.

import { shownKey, titleOf } from "./commands.js";
import { h } from "./dom.js";

/** Register the command that shows the list; `more` are pairs of a key and what it does where no command does it. */
export function mountShortcuts(app, places, more) {
  const tour = { title: "Take the tour", run: () => app.commands.run("tour") };
  app.commands.add({
    id: "shortcuts", title: "Keyboard shortcuts", icon: "help", keys: ["?"], group: "Help", toolbar: "page",
    run: () => places.dialogs.open({ title: "Keyboard shortcuts", content: lists(app, more), wide: true, actions: [tour] }),
  });
  places.menu.add(app.commands.get("shortcuts"));
}

function lists(app, more) {
  const commands = app.commands.all().filter(({ keys }) => keys.length);
  const groups = [...new Set(commands.map(({ group }) => group))];
  const items = (group) => commands.filter((each) => each.group === group).map((each) => [each.keys, titleOf(each)]);
  return h("div", { class: "shortcuts" },
    [...groups.map((group) => [group, items(group)]), ...Object.entries(more)].map(([title, pairs]) => h("section", {}, h("h3", {}, title), h("dl", {}, pairs.map(pair)))));
}

function pair([keys, title]) {
  return h("div", {}, h("dt", {}, title), h("dd", {}, keys.map((key) => h("kbd", {}, shownKey(key)))));
}
