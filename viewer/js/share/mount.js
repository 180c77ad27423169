import { followAddress } from "./address.js";

/** Mount this part of the page: put its elements into `places`, register its commands, listen to the state. */
export function mountShare(app, places) {
  void places;
  followAddress(app);
}
