// Light, dark, or as the system has it. The root's `data-theme` is "light" or "dark"; event "theme" follows each change.

const THEMES = ["auto", "light", "dark"];
const TITLES = { auto: "Light or dark: as the system", light: "Light or dark: light", dark: "Light or dark: dark" };
const ICONS = { auto: "auto", light: "sun", dark: "moon" };

/** Apply the theme of the state, now and whenever it or the system's changes; register its command. */
export function mountTheme(app) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const { theme } = app.store.page;
    document.documentElement.dataset.theme = theme === "auto" ? (system.matches ? "dark" : "light") : theme;
    app.emit("theme");
    app.commands.refresh();
  };
  const next = () => THEMES[(THEMES.indexOf(app.store.page.theme) + 1) % THEMES.length];
  app.commands.add({
    id: "theme",
    title: () => TITLES[app.store.page.theme],
    icon: () => ICONS[app.store.page.theme],
    keys: ["D"],
    group: "Page",
    toolbar: "page",
    run: () => {
      app.store.updatePage({ theme: next() });
      app.announce(TITLES[app.store.page.theme]);
    },
  });
  system.addEventListener("change", apply);
  app.store.subscribe(({ keys }) => keys.includes("theme") && apply());
  apply();
}
