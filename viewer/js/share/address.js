// The address of the page follows the state: its fragment is a link to what the page shows.

import { changesIn, fragmentOf } from "../state/portable.js";

const PAUSE_MS = 400; // after the last change: browsers limit how often an address may change
/** Characters of a link that mail, chats and browsers pass on. */
export const LONGEST_LINK = 32_000;
const DAMAGED = "The link is damaged. The page shows what it shows without it.";

/** Keep the address in step with the state, and the state with an address that a user enters; `say` shows a message. */
export function followAddress(app, say) {
  const { files, store } = app;
  let pause = null;
  store.subscribe(() => {
    clearTimeout(pause);
    pause = setTimeout(async () => show(await fragmentOf(store.state, files)), PAUSE_MS);
  });
  addEventListener("hashchange", async () => {
    try {
      app.restore(await changesIn(location.hash));
    } catch {
      say(DAMAGED);
    }
  });
  if (app.linkDamaged) say(DAMAGED);
}

/** Return the link to what the page shows now. */
export async function linkOf({ store, files }) {
  return location.href.split("#")[0] + (await fragmentOf(store.state, files));
}

function show(fragment) {
  try {
    history.replaceState(null, "", fragment || location.pathname + location.search);
  } catch {
    // a page inside a notebook has no address of its own
  }
}
