// A threshold as a slider, and as a number that can be typed.

import { h } from "../ui/dom.js";

const STEP = 0.005;
const DIGITS = 4;

/** Return {element, render} of a threshold; `set(value)` is called while the slider is dragged and while a number is typed. */
export function createSlider({ title, help }, set) {
  const slider = h("input", { type: "range", min: 0, step: STEP, "aria-label": `${title}: share of influence`, oninput: () => set(slider.valueAsNumber) });
  const field = h("input", { type: "number", class: "field number", min: 0, step: STEP, "aria-label": `${title}: share of influence, as a number`,
    oninput: () => isValid(field) && set(field.valueAsNumber), onchange: () => leave() });
  const problem = h("span", { class: "threshold-problem", role: "alert" });
  const element = h("div", { class: "threshold", title: help }, h("span", { class: "threshold-title" }, title), slider, field, problem);
  const leave = () => {
    problem.textContent = isValid(field) ? "" : `${title}: type a number from 0 to ${text(Number(field.max))}`;
    show(field, field.dataset.value);
  };
  return {
    element,
    render(value, most) {
      slider.max = field.max = String(most);
      slider.valueAsNumber = value;
      slider.setAttribute("aria-valuetext", `${text(value)} of the influence`);
      if (field.dataset.value !== text(value)) problem.textContent = "";
      field.dataset.value = text(value);
      if (document.activeElement !== field) show(field, text(value));
    },
  };
}

/** True for a number within the limits; more digits than those of a step are welcome. */
function isValid({ valueAsNumber, validity }) {
  return Number.isFinite(valueAsNumber) && !validity.rangeUnderflow && !validity.rangeOverflow;
}

function show(field, value) {
  field.value = value;
}

function text(value) {
  return String(Number(value.toFixed(DIGITS)));
}
