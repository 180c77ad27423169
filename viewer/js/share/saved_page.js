// The page as a file that has the state inside: the same scripts and style sheet, so that its policy holds.

import { changesOf } from "../state/state.js";

/** Return the text of the page, with what a user changed. It knows nothing of a server, nor its token. */
export function savedPage(app) {
  const head = [...document.head.querySelectorAll("meta"), document.head.querySelector("title"), document.head.querySelector("style")];
  const scripts = [...document.querySelectorAll("body > script")].filter(({ id }) => id !== "page" && id !== "state");
  const data = { page: { ...app.header, server: null }, state: changesOf(app.store.state, app.files) };
  return [
    '<!DOCTYPE html>\n<html lang="en">\n<head>',
    ...head.map(markup).map(withoutServer),
    "</head>\n<body>",
    markup(app.fallback),
    '<div id="app" hidden></div>',
    ...Object.entries(data).map(([id, value]) => `<script type="application/json" id="${id}">${jsonText(value)}<\/script>`),
    ...scripts.map(markup),
    "</body>\n</html>\n",
  ].join("\n");
}

/** Return markup of the head whose policy, if it has one, lets the page connect to nothing: that of a server's page lets it to the server. */
function withoutServer(text) {
  return text.startsWith("<meta") ? text.replace("connect-src 'self'", "connect-src 'none'") : text;
}

function markup(element) {
  return element.outerHTML;
}

/** Return JSON that stays text inside of a script element, as json_text of viewer/page/html.py. */
function jsonText(value) {
  return JSON.stringify(value).replaceAll("<", "\\u003c").replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
}
