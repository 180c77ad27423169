// Transcripts: bands behind the circuit, the verdict above it, and the report in a tab.

import { h, replaceChildren } from "../ui/dom.js";
import { bandsOf } from "./bands.js";
import { verdictBanner } from "./banner.js";
import { reportView } from "./view.js";

/** Mount this part of the page: put its elements into `places`, register its commands, listen to the state. */
export function mountReport(app, places) {
  app.files.forEach((file) => (app.bands[file.number] = bandsOf(file)));
  if (!app.files.some(({ extras }) => extras.report)) return;
  const [banners, views] = [h("div", { class: "verdicts" }), h("div", { class: "reports" })];
  const open = () => places.drawer.show("report");
  const show = () => {
    const { file, layout } = app.store.page;
    const shown = app.files.filter(({ number, extras }) => extras.report && (layout !== "one" || number === file));
    replaceChildren(banners, ...shown.map((each) => verdictBanner(app, each, open)));
    replaceChildren(views, ...shown.map((each) => reportView(app, each)));
  };
  places.banner.append(banners);
  places.drawer.add({ id: "report", title: "Report", element: views });
  app.commands.add({ id: "report.open", title: "Show the report", keys: ["R"], group: "Report", run: open });
  app.store.subscribe(({ file, keys }) => file === null && keys.some((key) => ["file", "layout"].includes(key)) && show());
  show();
}
