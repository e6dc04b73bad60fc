"use strict";

/** The bytes of a base64 text. */
function decodeBytes(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** The glow over the picture. The network saw the whole picture stretched to its grid, so the grid covers it all. */
class Attention {
  // From dark violet to pale yellow: brightness rises all the way, so it reads without colour too.
  static #STOPS = [[40, 10, 80], [125, 30, 109], [203, 65, 73], [248, 142, 8], [252, 235, 150]];

  static #SMOOTHING = 32; // pixels a region: drawn larger, the edges of the grid are smoothed away

  #canvas;
  #grid = document.createElement("canvas");
  #map = null;
  #values = null;
  #drawn = -1;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** Show the maps of a clip: {height, width, values} with a byte a region, segment by segment. */
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
      const value = (this.#values[segment * width * height + i] ?? 0) / 255;
      image.data.set([...Attention.#color(value), 255 * Math.min(1, 1.6 * value)], 4 * i);
    }
    grid.putImageData(image, 0, 0);
    const context = this.#canvas.getContext("2d");
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#grid, 0, 0, this.#canvas.width, this.#canvas.height);
  }

  static #color(value) {
    const place = value * (Attention.#STOPS.length - 1);
    const below = Math.min(Math.floor(place), Attention.#STOPS.length - 2);
    return [0, 1, 2].map((i) => {
      const [low, high] = [Attention.#STOPS[below][i], Attention.#STOPS[below + 1][i]];
      return low + (high - low) * (place - below);
    });
  }
}
