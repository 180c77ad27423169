// Colours and font of circuits, read from the style sheet.

/** Names of the colours: variables of css/theme.css and css/report.css. */
const COLOURS = [
  "paper", "ground", "rule", "rule-strong", "ink", "ink-soft", "ink-faint", "accent", "positive", "negative", "feature", "feature-line", "error", "error-line",
  "token", "token-line", "target", "target-line", "group", "group-line", "band", "band-question", "band-hint", "band-step", "band-answer", "band-text",
  "band-used", "band-unused", "band-decides", "band-segment",
  "side-a", "side-b", "side-both",
];

/** Return {font, isDark, and each colour by its name as #rrggbb} for an element. */
export function readStyle(element) {
  const probe = element.appendChild(document.createElement("span"));
  const style = { font: getComputedStyle(element).fontFamily };
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  for (const name of COLOURS) {
    probe.style.color = `var(--${name})`;
    style[name] = hex(getComputedStyle(probe).color, context);
  }
  probe.remove();
  return style;
}

/** Return any colour of CSS as #rrggbb. */
function hex(colour, context) {
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const pixel = context.getImageData(0, 0, 1, 1).data;
  return `#${[...pixel.slice(0, 3)].map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}
