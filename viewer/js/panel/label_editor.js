// The label of a node, edited in place. The change is undoable.

import { canLabel, labelKey } from "../data/labels.js";
import { visible } from "../data/visible.js";
import { nameProblem } from "../state/names.js";
import { h, replaceChildren } from "../ui/dom.js";
import { iconButton } from "./buttons.js";
import { headline } from "./names.js";

const LONGEST = 200; // characters that can be typed
const SOURCES = {
  user: "your label",
  file: "from a file of labels",
  neuronpedia: "from Neuronpedia",
  examples: "from its examples",
  outputs: "from what it promotes",
};

/** Return {element, edit}: the title of a node, and the start of editing it where it can have a label. */
export function labelEditor(context, node) {
  const element = h("div", { class: "subject-title" });
  const hasLabel = canLabel(context.graph, node);
  const title = () => headline(context, node) ?? h("span", { class: "code" }, context.graph.nameOf(node));
  const show = () => replaceChildren(element, h("h2", {}, title()), hasLabel && iconButton("label", "Edit the label", "edit", edit));
  const focusButton = () => element.querySelector("button").focus();
  const edit = () => hasLabel && replaceChildren(element, field(context, node, show, focusButton));
  show();
  return { element, edit };
}

/** Return who says what the label of a node says, or what its absence means; empty for nodes with a text of their own. */
export function labelSource(context, node) {
  if (!canLabel(context.graph, node)) return "";
  const label = context.label(node);
  if (!label) return "no label";
  const known = context.extras.cards?.[labelKey(context.graph, node)]?.label;
  const hasScore = known?.text === label.text && typeof known.score === "number";
  const scale = hasScore && `Chance is ${known.null.toFixed(2)}, perfect is 1`;
  const score = hasScore && h("span", { class: "number", title: scale }, `, score ${known.score.toFixed(2)}`);
  return [SOURCES[label.source] ?? visible(label.source), score];
}

/** Return the field and its message; it saves on Enter and when it is left, Escape ends without. */
function field(context, node, done, focusButton) {
  const key = labelKey(context.graph, node);
  const problem = h("p", { id: "label-problem", class: "problem", role: "alert" });
  const input = h("input", {
    class: "field label-field", value: context.label(node)?.text ?? "", placeholder: "What it means to you", dataset: { key: "label" },
    maxlength: LONGEST, spellcheck: "false", autocomplete: "off", "aria-label": `Label of ${key}`, "aria-describedby": "label-problem",
  });
  let ended = false;
  const end = (save) => {
    if (ended) return;
    const message = save ? nameProblem(input.value, "label") : "";
    problem.textContent = message;
    if (message) return;
    ended = true;
    const hadFocus = document.activeElement === input;
    if (save && saveLabel(context, node, input.value.trim())) return;
    done();
    if (hadFocus) focusButton();
  };
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.stopPropagation();
    event.preventDefault(); // the focus goes to a button, which Enter would press
    end(event.key === "Enter");
  });
  input.addEventListener("blur", () => end(true));
  requestAnimationFrame(() => (input.focus(), input.select()));
  return [input, problem];
}

/** Change the label in the state; return whether it is another one now. A label as in the file needs no entry. */
function saveLabel(context, node, text) {
  if (text === (context.label(node)?.text ?? "")) return false;
  const { [labelKey(context.graph, node)]: _, ...labels } = context.state.labels;
  const key = labelKey(context.graph, node);
  if (text !== context.graph.texts("label")[node]) labels[key] = text;
  context.app.store.update(context.file, { labels }, text ? `label ${key}` : `remove the label of ${key}`);
  return true;
}
