"use strict";

/** Seconds as 1:02 or 1:02:03, with tenths if wanted. */
function clock(seconds, tenths = false) {
  const units = tenths ? Math.round(seconds * 10) : Math.round(seconds) * 10;
  const whole = Math.floor(units / 10);
  const pad = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const text = hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
  return tenths ? `${text}.${units % 10}` : text;
}

/** An element with text, which stays text whatever it holds. */
function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Ruler, waveform, tracks and events of a video over one axis of time that scrolls and zooms. */
class Timeline {
  static #STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
  static #WIDEST = 8e6; // pixels; browsers lay out about twice that
  static #LEAST_MOVE = 0.5; // pixels, while it plays
  static #LEAST_BIN = 2; // pixels; where segments are narrower, several are drawn as one
  static #LANES = [30, 20]; // pixels: of a lane, and where there are so many classes that the page would get long
  static #MANY = 6;

  #scroll = document.getElementById("scroll");
  #wide = document.getElementById("wide");
  #bars = document.getElementById("bars");
  #playhead = document.getElementById("playhead");
  #wave = null;
  #video = null;
  #classes;
  #scale = 1; // pixels a second
  #position = 0;
  #buttons = new Map(); // event to element
  #seek;
  #pointed;
  #drawing = 0;
  #nonce;

  /**
   * `classes` give an event's look; `seek` is called with the seconds where the timeline is pressed, `pointed` with
   * those under the mouse, or null when it leaves.
   */
  constructor(classes, seek, pointed, nonce) {
    this.#classes = classes;
    this.#seek = seek;
    this.#pointed = pointed;
    this.#nonce = nonce;
    this.#scroll.addEventListener("scroll", () => this.#drawSoon(), {passive: true});
    this.#wide.addEventListener("click", (event) => {
      if (!event.target.closest("button")) seek(this.secondsAt(event.clientX));
    });
    this.#wide.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.#point(event.clientX));
    this.#wide.addEventListener("pointerleave", () => this.#point(null));
    new ResizeObserver(() => this.#video && this.#setScale(this.#scale)).observe(this.#scroll);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#wave?.setOptions(this.#waveColors());
      this.#drawSoon();
    });
  }

  secondsAt(clientX) {
    const seconds = (clientX - this.#wide.getBoundingClientRect().left) / this.#scale;
    return Math.max(0, Math.min(seconds, this.#video.duration));
  }

  /** Show a video: {duration, segmentSeconds, seen, heard, event, labels (one a segment), peaks}. */
  open(video) {
    this.#video = video;
    this.#point(null);
    this.#wave?.destroy();
    this.#wave = WaveSurfer.create({
      container: "#waveform",
      cspNonce: this.#nonce,
      peaks: [Float32Array.from(decodeBytes(video.peaks), (value) => value / 255)],
      duration: video.duration,
      height: 56,
      normalize: true,
      interact: false,
      hideScrollbar: true,
      autoScroll: false,
      cursorWidth: 0,
      ...this.#waveColors(),
    });
    this.#scroll.scrollLeft = 0;
    this.#position = 0;
    this.#setScale(0);
  }

  /** Draw the bars of these events, a row for each class. */
  showEvents(events) {
    this.#buttons.clear();
    this.#bars.replaceChildren();
    const classes = Map.groupBy(events, (event) => event.label);
    const height = Timeline.#LANES[classes.size > Timeline.#MANY ? 1 : 0];
    this.#bars.style.setProperty("--lane", `${height}px`);
    for (const [label, its] of classes) {
      const caption = element("p", "caption");
      caption.append(element("b", "", label), its.length > 1 ? ` ${its.length} events` : "");
      const row = element("div", "lanes");
      row.style.height = `${(Math.max(...its.map(({lane}) => lane)) + 1) * height}px`;
      for (const event of its) {
        const button = element("button", "event");
        button.type = "button";
        button.tabIndex = -1; // the list below has the same events for the keyboard
        button.title = describe(event);
        button.setAttribute("aria-label", button.title);
        button.style.top = `${event.lane * height}px`;
        this.#classes.paint(button, event.label);
        button.addEventListener("click", () => this.#seek(event.start));
        row.append(button);
        this.#buttons.set(event, button);
      }
      this.#bars.append(caption, row);
    }
    this.#place();
  }

  /** Zoom by a factor around the position, or with 0 show all. */
  zoom(factor, position) {
    const offset = position * this.#scale - this.#scroll.scrollLeft;
    const visible = offset >= 0 && offset <= this.#scroll.clientWidth;
    this.#setScale(this.#scale * factor);
    this.#scroll.scrollLeft = position * this.#scale - (visible ? offset : this.#scroll.clientWidth / 2);
  }

  /** Move to a position; `follow` scrolls so that it can be seen. */
  move(position, follow) {
    const still = Math.abs(position - this.#position) * this.#scale < Timeline.#LEAST_MOVE;
    if (follow && still) return; // an hour moves by a pixel in seconds, and every move is a new picture
    this.#position = position;
    this.#wave.setTime(position);
    this.#placePlayhead();
    const x = position * this.#scale;
    const {scrollLeft, clientWidth} = this.#scroll;
    if (follow && (x < scrollLeft || x > scrollLeft + clientWidth - 8)) this.#scroll.scrollLeft = x - clientWidth * 0.1;
  }

  /** Mark an event as being at the position, or not. */
  mark(event, now) {
    this.#buttons.get(event)?.classList.toggle("now", now);
  }

  #point(clientX) {
    const pointer = document.getElementById("pointer");
    pointer.hidden = clientX === null;
    const seconds = clientX === null ? null : this.secondsAt(clientX);
    if (seconds !== null) pointer.style.transform = `translateX(${seconds * this.#scale}px)`;
    this.#pointed(seconds);
  }

  #setScale(scale) {
    const {duration} = this.#video;
    const view = this.#scroll.clientWidth;
    const least = view / duration;
    this.#scale = Math.max(least, Math.min(scale, 240, Timeline.#WIDEST / duration));
    const all = this.#scale <= least;
    this.#wide.style.width = `${all ? view : Math.ceil(duration * this.#scale)}px`;
    this.#wide.style.setProperty("--view", `${view}px`);
    // It scrolls for itself, so that it draws no more than can be seen.
    this.#wave.setOptions({minPxPerSec: all ? 0 : this.#scale});
    this.#place();
    this.#drawSoon();
  }

  #placePlayhead() {
    this.#playhead.style.transform = `translateX(${this.#position * this.#scale}px)`;
  }

  #place() {
    this.#placePlayhead();
    const context = document.createElement("canvas").getContext("2d");
    context.font = "600 12.8px system-ui, sans-serif"; // as bold as an event is while it lasts
    for (const [event, button] of this.#buttons) {
      button.style.left = `${event.start * this.#scale}px`;
      const width = (event.end - event.start) * this.#scale - 1;
      button.style.width = `${width}px`;
      const confidence = event.confidence.toFixed(2);
      const texts = [`${event.label} ${confidence}`, confidence, ""]; // never a part of a number
      button.textContent = texts.find((text) => text === "" || context.measureText(text).width + 20 <= width);
    }
  }

  #waveColors() {
    const style = getComputedStyle(document.documentElement);
    return {waveColor: style.getPropertyValue("--wave"), progressColor: style.getPropertyValue("--played")};
  }

  #drawSoon() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = requestAnimationFrame(() => this.#draw());
  }

  /** Canvases are as wide as the visible part, and stay there while the rest scrolls under them. */
  #draw() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`);
    const view = {from: this.#scroll.scrollLeft / this.#scale, width: this.#scroll.clientWidth};
    this.#wave.setScroll(this.#scroll.scrollLeft);
    this.#drawRuler(view, color);
    const bins = this.#bins(view);
    this.#drawLabels(bins, view, color);
    for (const name of ["seen", "heard", "event"]) this.#drawTrack(name, bins, view, color);
    const each = this.#binned * this.#video.segmentSeconds;
    document.getElementById("coarse").textContent =
      this.#binned > 1 ? `Zoomed out, so each bar stands for ${each} s: strong color their mean, pale their highest.` : "";
  }

  /** How many segments are drawn as one. */
  get #binned() {
    return Math.max(1, Math.ceil(Timeline.#LEAST_BIN / (this.#scale * this.#video.segmentSeconds)));
  }

  /** The visible part, as {first, last, x, end}: the segments from first to before last, and where in the view. */
  #bins(view) {
    const {segmentSeconds, duration, event} = this.#video;
    const count = this.#binned;
    const until = Math.min(event.length, (view.from + view.width / this.#scale) / segmentSeconds);
    const place = (segment) => (Math.min(segment * segmentSeconds, duration) - view.from) * this.#scale;
    const bins = [];
    for (let first = Math.floor(view.from / segmentSeconds / count) * count; first < until; first += count) {
      const last = Math.min(first + count, event.length);
      bins.push({first, last, x: place(first), end: place(last)});
    }
    return bins;
  }

  #context(name, view) {
    const canvas = document.getElementById(name);
    const height = canvas.clientHeight;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(view.width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    return [context, height];
  }

  #drawRuler(view, color) {
    const [context, height] = this.#context("ruler", view);
    const step = Timeline.#STEPS.find((seconds) => seconds * this.#scale >= 64) ?? 28800;
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = color("soft");
    const until = Math.min(view.from + view.width / this.#scale, this.#video.duration);
    for (let seconds = Math.floor(view.from / step) * step; seconds <= until; seconds += step) {
      const x = (seconds - view.from) * this.#scale;
      context.fillRect(x, height - 5, 1, 5);
      if (x + 48 < view.width) context.fillText(clock(seconds), x + 3, height - 7);
    }
  }

  /** Of segments drawn as one, the class of the one most likely to be event. */
  #drawLabels(bins, view, color) {
    const [context, height] = this.#context("labels", view);
    const {labels, event} = this.#video;
    const runs = [];
    for (const {first, last, x, end} of bins) {
      let most = first;
      for (let i = first + 1; i < last; i++) if (event[i] > event[most]) most = i;
      const run = runs.at(-1);
      if (run?.label === labels[most]) run.end = end;
      else runs.push({label: labels[most], x, end});
    }
    context.font = "12px system-ui, sans-serif";
    for (const {label, x, end} of runs) {
      const hue = this.#classes.hue(label);
      const width = Math.max(1, end - x - (end - x > 4 ? 1 : 0));
      context.fillStyle = color(hue ?? "line");
      context.globalAlpha = 0.25;
      context.fillRect(x, 0, width, height);
      context.globalAlpha = 1;
      context.fillRect(x, height - 3, width, 3);
      const left = Math.max(x, 0) + 4;
      const text = fitting(context, label, Math.min(end, view.width) - left - 4);
      context.fillStyle = color("ink");
      context.fillText(text, left, height - 8);
    }
  }

  #drawTrack(name, bins, view, color) {
    const [context, height] = this.#context(name, view);
    const values = this.#video[name];
    context.font = "600 11px system-ui, sans-serif";
    context.textAlign = "center";
    for (const share of [0.5, 1]) {
      context.fillStyle = color("faint");
      context.fillRect(0, Math.round(height * (1 - share)), view.width, 1);
    }
    const fill = color(name);
    for (const {first, last, x, end} of bins) {
      const its = values.slice(first, last).filter((value) => value !== null);
      if (!its.length) {
        context.globalAlpha = 1;
        context.fillStyle = color("soft");
        if (end - x >= 8) context.fillText("–", (x + end) / 2, height - 4);
        continue;
      }
      const mean = its.reduce((sum, value) => sum + value, 0) / its.length;
      const width = end - x > 4 ? end - x - 1 : Math.max(1, end - x);
      context.fillStyle = fill;
      const bar = (value) => context.fillRect(x, height - Math.max(1, value * height), width, Math.max(1, value * height));
      context.globalAlpha = 0.35;
      if (its.length > 1) bar(Math.max(...its));
      context.globalAlpha = 1;
      bar(mean);
      if (width < 34) continue;
      const inside = mean > 0.45;
      context.fillStyle = inside ? color("paper") : color("ink");
      context.fillText(mean.toFixed(2), x + width / 2, height * (1 - mean) + (inside ? 13 : -4));
    }
    context.fillStyle = color("line");
    context.fillRect(0, height - 1, view.width, 1);
  }
}

/** As much of a text's beginning as fits into a width of pixels, with an ellipsis; nothing if that is too little. */
function fitting(context, text, width) {
  if (width < 20 || context.measureText(text).width <= width) return width < 20 ? "" : text;
  let length = Math.min(text.length - 1, Math.ceil(width / 3));
  while (length > 0 && context.measureText(`${text.slice(0, length)}…`).width > width) length--;
  return length > 1 ? `${text.slice(0, length)}…` : "";
}

/** An event in words, all of it. */
function describe(event) {
  const {label, start, end, confidence, beside} = event;
  const words = `${label}, ${clock(start, true)} to ${clock(end, true)}, confidence ${confidence.toFixed(2)}`;
  return beside ? `${words}; ${beside}` : words;
}

/** Players answer a seek with the time up to a microsecond or so. */
function isNow(event, position) {
  return event.start <= position + 0.001 && position + 0.001 < event.end;
}
