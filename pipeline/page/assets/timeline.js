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

/** For each event the lane where it covers no other, the first that is free; events are in order of start. */
function lanesOf(events) {
  const ends = [];
  return events.map((event) => {
    let lane = ends.findIndex((end) => end <= event.start);
    if (lane < 0) lane = ends.length;
    ends[lane] = event.end;
    return lane;
  });
}

/** Ruler, waveform, tracks and events of a clip over one axis of time that scrolls and zooms. */
class Timeline {
  static #STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
  static #WIDEST = 32000; // pixels; browsers draw no wider canvas, and wavesurfer makes several of a part each
  static #LANE = 30;

  #scroll = document.getElementById("scroll");
  #wide = document.getElementById("wide");
  #bars = document.getElementById("bars");
  #playhead = document.getElementById("playhead");
  #wave = null;
  #clip = null;
  #classes;
  #scale = 1; // pixels a second
  #buttons = []; // [event, element]
  #seek;
  #drawing = 0;
  #nonce;

  /** `classes` give an event's look; `seek` is called with the seconds where the timeline is pressed. */
  constructor(classes, seek, nonce) {
    this.#classes = classes;
    this.#seek = seek;
    this.#nonce = nonce;
    this.#scroll.addEventListener("scroll", () => this.#drawSoon(), {passive: true});
    this.#wide.addEventListener("click", (event) => {
      if (!event.target.closest("button")) seek(this.secondsAt(event.clientX));
    });
    new ResizeObserver(() => this.#clip && this.#setScale(this.#scale)).observe(this.#scroll);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#wave?.setOptions(this.#waveColors());
      this.#drawSoon();
    });
  }

  secondsAt(clientX) {
    const seconds = (clientX - this.#wide.getBoundingClientRect().left) / this.#scale;
    return Math.max(0, Math.min(seconds, this.#clip.duration));
  }

  /** Show a clip: {duration, segmentSeconds, seen, heard, both, peaks, peaksPerSecond}. */
  open(clip) {
    this.#clip = clip;
    this.#wave?.destroy();
    this.#wave = WaveSurfer.create({
      container: "#waveform",
      cspNonce: this.#nonce,
      peaks: [Float32Array.from(decodeBytes(clip.peaks), (value) => value / 255)],
      duration: clip.duration,
      height: 56,
      normalize: true,
      interact: false,
      hideScrollbar: true,
      autoScroll: false,
      cursorWidth: 0,
      ...this.#waveColors(),
    });
    this.#scroll.scrollLeft = 0;
    this.#setScale(0);
  }

  /** Draw the bars of these events, a row for each class. */
  showEvents(events) {
    this.#buttons = [];
    this.#bars.replaceChildren();
    for (const [label, its] of Map.groupBy(events, (event) => event.label)) {
      const caption = element("p", "caption");
      caption.append(element("b", "", label));
      const row = element("div", "lanes");
      const lanes = lanesOf(its);
      row.style.height = `${(Math.max(...lanes) + 1) * Timeline.#LANE}px`;
      its.forEach((event, i) => {
        const button = element("button", "event", `${event.label} ${event.confidence.toFixed(2)}`);
        button.type = "button";
        button.tabIndex = -1; // the list below has the same events for the keyboard
        button.title = describe(event);
        button.setAttribute("aria-label", button.title);
        button.style.top = `${lanes[i] * Timeline.#LANE}px`;
        this.#classes.paint(button, event.label);
        button.addEventListener("click", () => this.#seek(event.start));
        row.append(button);
        this.#buttons.push([event, button]);
      });
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
    this.#wave.setTime(position);
    const x = position * this.#scale;
    this.#playhead.style.transform = `translateX(${x}px)`;
    for (const [event, button] of this.#buttons) button.classList.toggle("now", isNow(event, position));
    const {scrollLeft, clientWidth} = this.#scroll;
    if (follow && (x < scrollLeft || x > scrollLeft + clientWidth - 8)) this.#scroll.scrollLeft = x - clientWidth * 0.1;
  }

  #setScale(scale) {
    const {duration} = this.#clip;
    const least = this.#scroll.clientWidth / duration;
    this.#scale = Math.max(least, Math.min(scale, 240, Timeline.#WIDEST / duration));
    const width = this.#scale > least ? Math.ceil(duration * this.#scale) : this.#scroll.clientWidth;
    this.#wide.style.width = `${width}px`;
    this.#place();
    this.#drawSoon();
  }

  #place() {
    for (const [event, button] of this.#buttons) {
      button.style.left = `${event.start * this.#scale}px`;
      const width = (event.end - event.start) * this.#scale - 1;
      button.style.width = `${width}px`;
      button.classList.toggle("narrow", width < 32); // no room for a word
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

  /** Canvases are as wide as what can be seen, and stay there while the rest scrolls under them. */
  #draw() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`);
    const view = {from: this.#scroll.scrollLeft / this.#scale, width: this.#scroll.clientWidth};
    this.#drawRuler(view, color);
    for (const name of ["seen", "heard", "both"]) this.#drawTrack(name, view, color);
  }

  #context(name, view) {
    const canvas = document.getElementById(name);
    const height = canvas.clientHeight;
    const ratio = devicePixelRatio || 1;
    canvas.style.width = `${view.width}px`;
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
    const until = Math.min(view.from + view.width / this.#scale, this.#clip.duration);
    for (let seconds = Math.floor(view.from / step) * step; seconds <= until; seconds += step) {
      const x = (seconds - view.from) * this.#scale;
      context.fillRect(x, height - 5, 1, 5);
      if (x + 36 < view.width) context.fillText(clock(seconds), x + 3, height - 7);
    }
  }

  #drawTrack(name, view, color) {
    const [context, height] = this.#context(name, view);
    const {segmentSeconds, duration} = this.#clip;
    const values = this.#clip[name];
    const first = Math.max(0, Math.floor(view.from / segmentSeconds));
    const last = Math.min(values.length, Math.ceil((view.from + view.width / this.#scale) / segmentSeconds));
    context.font = "600 11px system-ui, sans-serif";
    context.textAlign = "center";
    for (const share of [0.5, 1]) {
      context.fillStyle = color("faint");
      context.fillRect(0, Math.round(height * (1 - share)), view.width, 1);
    }
    for (let i = first; i < last; i++) {
      const x = (i * segmentSeconds - view.from) * this.#scale;
      const end = (Math.min((i + 1) * segmentSeconds, duration) - view.from) * this.#scale;
      const width = end - x > 4 ? end - x - 1 : Math.max(1, end - x);
      const top = height - Math.max(1, values[i] * height);
      context.fillStyle = color(name);
      context.fillRect(x, top, width, height - top);
      if (width < 34) continue;
      const inside = values[i] > 0.45;
      context.fillStyle = inside ? color("paper") : color("ink");
      context.fillText(values[i].toFixed(2), x + width / 2, inside ? top + 13 : top - 4);
    }
    context.fillStyle = color("line");
    context.fillRect(0, height - 1, view.width, 1);
  }
}

/** An event in words, all of it. */
function describe(event) {
  const {label, start, end, confidence} = event;
  return `${label}, ${clock(start, true)} to ${clock(end, true)}, confidence ${confidence.toFixed(2)}`;
}

/** Players answer a seek with the time up to a microsecond or so. */
function isNow(event, position) {
  return event.start <= position + 0.001 && position + 0.001 < event.end;
}
