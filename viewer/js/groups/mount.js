import { createActions } from "./actions.js";
import { addCommands } from "./commands.js";
import { createList } from "./list.js";
import { createScores } from "./scores.js";

const ID = "groups"; // of the tab
const SHOWN = ["groups", "labels", "dismissed", "selected", "target", "file", "tab"]; // keys that the tab shows

/** Mount the groups: their tab, their commands, and undo. */
export function mountGroups(app, places) {
  const actions = createActions(app);
  const scores = createScores(actions);
  const list = createList(app, actions, scores);
  const render = () => {
    if (app.store.page.tab !== ID) return;
    list.render();
    scores.render();
  };
  places.drawer.add({ id: ID, title: "Groups", element: list.element });
  addCommands(app, actions, { show: () => app.store.updatePage({ tab: ID }), editName: list.editName });
  app.store.subscribe(({ keys }) => keys.some((key) => SHOWN.includes(key)) && render());
  render();
}
