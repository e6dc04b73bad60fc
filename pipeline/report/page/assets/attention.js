"use strict";

/** The bytes of a base64 text. */
function decodeBytes(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** The glow over the frame. The network gets the whole frame stretched to its grid, so the grid covers all of it. */
class Attention {
  static #SMOOTHING = 32; // pixels a region: drawn larger, the edges of the grid are smoothed away

  #canvas;
  #scale;
  #grid = document.createElement("canvas");
  #map = null;
  #values = null;
  #drawn = -1;

  /** `scale` has four bytes, RGBA, for each strength from 0 to 255, as a base64 text. */
  constructor(canvas, scale) {
    this.#canvas = canvas;
    this.#scale = decodeBytes(scale);
  }

  /** Show the maps of a video: {height, width, values} with a byte a region, segment by segment. */
  open(map) {
    this.#map = map;
    this.#values = decodeBytes(map.values);
    this.#drawn = -1;
    this.#grid.width = map.width;
    this.#grid.height = map.height;
    this.#canvas.width = map.width * Attention.#SMOOTHING;
    this.#canvas.height = map.height * Attention.#SMOOTHING;
  }

  draw(segment) {
    if (segment === this.#drawn) return;
    this.#drawn = segment;
    const {height, width} = this.#map;
    const grid = this.#grid.getContext("2d");
    const image = grid.createImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      const strength = this.#values[segment * width * height + i] ?? 0;
      image.data.set([strength, strength, strength, 255], 4 * i);
    }
    grid.putImageData(image, 0, 0);
    // First the strength is made smooth, then it gets its colors: between two of them there may be others.
    const context = this.#canvas.getContext("2d", {willReadFrequently: true});
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#grid, 0, 0, this.#canvas.width, this.#canvas.height);
    const glow = context.getImageData(0, 0, this.#canvas.width, this.#canvas.height);
    for (let i = 0; i < glow.data.length; i += 4) {
      const strength = glow.data[i];
      for (let part = 0; part < 4; part++) glow.data[i + part] = this.#scale[4 * strength + part];
    }
    context.putImageData(glow, 0, 0);
  }
}
