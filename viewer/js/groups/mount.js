import { createActions } from "./actions.js";
import { addCommands, addHistory } from "./commands.js";
import { createList } from "./list.js";
import { createScores } from "./scores.js";

const TAB = "groups";
const SHOWN = ["groups", "labels", "dismissed", "selected", "target", "file", "tab"]; // keys of the state that the tab shows

/** Mount the groups: their tab, their commands, and undo. */
export function mountGroups(app, places) {
  const actions = createActions(app);
  const scores = createScores(actions);
  const list = createList(actions, scores);
  const render = () => {
    if (app.store.page.tab !== TAB) return;
    list.render();
    scores.render();
  };
  addHistory(app);
  addCommands(app, actions, { show: () => places.drawer.show(TAB), editName: list.editName, say: (text) => places.toasts.show(text) });
  places.drawer.add({ id: TAB, title: "Groups", element: list.element });
  app.store.subscribe(({ keys }) => keys.some((key) => SHOWN.includes(key)) && render());
  render();
}
