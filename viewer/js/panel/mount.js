/** Mount this part of the page: put its elements into `places`, register its commands, listen to the state. */
export function mountPanel(app, places) {
  void [app, places];
}
