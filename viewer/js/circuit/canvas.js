// A canvas that shows a picture {view, width, height, ratio}, and can be moved to another view by CSS.

import { h } from "../ui/dom.js";
import { transformBetween } from "./view.js";

/** Return a canvas: {element, view, paint, show, move}. `view` is the one of its last picture. */
export function createCanvas(name) {
  const element = h("canvas", { class: name, "aria-hidden": "true" });
  let [context, bitmaps] = [null, null];
  const canvas = {
    element,
    view: null,
    /** Paint a picture with a function that gets the context, in pixels from the left upper corner. */
    paint(picture, draw) {
      context ??= element.getContext("2d");
      resize(picture);
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, element.width, element.height);
      context.scale(picture.ratio, picture.ratio);
      draw(context);
    },
    /** Show a bitmap of a picture; a canvas shows either bitmaps or paintings. */
    show(bitmap, picture) {
      bitmaps ??= element.getContext("bitmaprenderer");
      resize(picture);
      bitmaps.transferFromImageBitmap(bitmap);
    },
    /** Move the picture to where its content is in another view. */
    move(view) {
      if (canvas.view) element.style.transform = `translate(-50%, -50%) ${transformBetween(canvas.view, view)}`;
    },
  };

  function resize({ view, width, height, ratio }) {
    canvas.view = view;
    const sizes = [Math.floor(width * ratio), Math.floor(height * ratio)];
    if (element.width !== sizes[0] || element.height !== sizes[1]) [element.width, element.height] = sizes;
    element.style.width = `${width}px`;
    element.style.height = `${height}px`;
  }
  return canvas;
}
