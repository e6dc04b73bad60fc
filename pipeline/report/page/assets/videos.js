"use strict";

/** The classes of all videos: how they look, and which of them are shown. None chosen means all. */
class Classes {
  static #PATTERNS = ["", "striped", "lined"];

  #numbers;
  #hues;
  #chosen = new Set();

  /** `names` in the order in which hues are given to them; `hues` says how many there are. */
  constructor(names, hues, videos, fieldset, changed) {
    this.#numbers = new Map(names.map((label, number) => [label, number]));
    this.#hues = hues;
    const counts = new Map();
    for (const {events} of videos) for (const {label} of events) counts.set(label, (counts.get(label) ?? 0) + 1);
    const labels = [...names].sort((a, b) => a.localeCompare(b));
    fieldset.hidden = labels.length < 2;
    const holder = fieldset.querySelector("div");
    const everything = element("button", "", "All");
    everything.type = "button";
    const press = () => {
      for (const button of holder.children) {
        const pressed = button === everything ? this.all : this.#chosen.has(button.dataset.label);
        button.setAttribute("aria-pressed", String(pressed));
      }
    };
    everything.addEventListener("click", () => {
      this.#chosen.clear();
      press();
      changed();
    });
    holder.append(everything);
    for (const label of labels) {
      const button = element("button");
      button.type = "button";
      button.dataset.label = label;
      button.append(element("span", "swatch"), `${label} ${counts.get(label)}`);
      this.paint(button, label);
      button.addEventListener("click", () => {
        if (!this.#chosen.delete(label)) this.#chosen.add(label);
        press();
        changed();
      });
      holder.append(button);
    }
    press();
  }

  get all() {
    return this.#chosen.size === 0;
  }

  /** A class's hue as a CSS variable's name, or null if no event is of it. */
  hue(label) {
    return this.#numbers.has(label) ? `hue-${this.#numbers.get(label) % this.#hues}` : null;
  }

  /** The events of the classes that are shown. */
  visible(events) {
    return this.all ? events : events.filter(({label}) => this.#chosen.has(label));
  }

  /** Give an element its class's hue, and a pattern where the hues have run out. */
  paint(target, label) {
    const number = this.#numbers.get(label);
    target.style.setProperty("--hue", `var(--${this.hue(label)})`);
    const pattern = Classes.#PATTERNS[Math.floor(number / this.#hues) % Classes.#PATTERNS.length];
    if (pattern) target.classList.add(pattern);
  }
}

/**
 * Make a list a single stop of the tab key; within it the arrows up and down, Home and End go from button to button.
 * Returns what has to be called whenever its buttons have changed.
 */
function rove(list) {
  let stop = null;
  const shown = () => [...list.querySelectorAll("button")].filter((button) => !button.closest("[hidden]"));
  const stopAt = (button) => {
    if (stop) stop.tabIndex = -1;
    stop = button ?? null;
    if (stop) stop.tabIndex = 0;
  };
  list.addEventListener("focusin", (event) => stopAt(event.target.closest("button")));
  list.addEventListener("keydown", (event) => {
    const buttons = shown();
    const here = buttons.indexOf(document.activeElement);
    const there = {ArrowUp: here - 1, ArrowDown: here + 1, Home: 0, End: buttons.length - 1}[event.key];
    if (here < 0 || there === undefined) return;
    event.preventDefault();
    buttons[there]?.focus();
  });
  return () => {
    const buttons = shown();
    for (const button of buttons) button.tabIndex = -1;
    stopAt(buttons.find((button) => button.getAttribute("aria-current") === "true") ?? buttons[0]);
  };
}

/** All videos by name, each with its events in small; a search and the chosen classes say which are listed. */
class VideoList {
  #videos;
  #classes;
  #list = document.getElementById("list");
  #find = document.getElementById("find");
  #found = document.getElementById("found");
  #rows;
  #open = 0;
  #settle = rove(this.#list);

  constructor(videos, classes, open) {
    this.#videos = videos;
    this.#classes = classes;
    this.#rows = videos.map((video, number) => {
      const row = element("li");
      const button = element("button");
      button.type = "button";
      button.title = video.name;
      button.append(element("span", "name", video.name), element("span", "strip"), element("span", "what"));
      button.addEventListener("click", () => open(number));
      row.append(button);
      return row;
    });
    this.#list.append(...this.#rows);
    this.#find.addEventListener("input", () => this.#select());
    this.filter();
  }

  /** Show of each video the events of the chosen classes, and list those that fit the search and have such events. */
  filter() {
    this.#videos.forEach((video, number) => {
      const events = this.#classes.visible(video.events);
      const row = this.#rows[number];
      row.dataset.events = events.length;
      row.querySelector(".strip").replaceChildren(...events.map((event) => this.#mark(event, video.duration)));
      const labels = [...new Set(events.map(({label}) => label))].join(", ");
      row.querySelector(".what").textContent = `${clock(video.duration)} · ${labels || "no event"}`;
    });
    this.#select();
  }

  #select() {
    const wanted = this.#find.value.trim().toLowerCase();
    this.#videos.forEach(({name}, number) => {
      const row = this.#rows[number];
      row.hidden = !name.toLowerCase().includes(wanted) || (!this.#classes.all && row.dataset.events === "0");
    });
    const shown = this.#rows.filter((row) => !row.hidden).length;
    this.#found.textContent = shown === this.#rows.length ? "" : `${shown} of ${this.#rows.length} videos`;
    this.#settle();
  }

  /** Mark a video as the open one. */
  mark(number) {
    this.#rows[this.#open].firstChild.removeAttribute("aria-current");
    this.#open = number;
    this.#rows[number].firstChild.setAttribute("aria-current", "true");
    this.#rows[number].scrollIntoView({block: "nearest"});
    this.#settle();
  }

  /** Whether the open video is listed. */
  get openIsListed() {
    return !this.#rows[this.#open].hidden;
  }

  /** The next listed video in a direction, or null. */
  neighbour(direction) {
    for (let number = this.#open + direction; number in this.#rows; number += direction) {
      if (!this.#rows[number].hidden) return number;
    }
    return null;
  }

  #mark(event, duration) {
    const mark = element("i");
    mark.style.left = `${(100 * event.start) / duration}%`;
    mark.style.width = `${(100 * (event.end - event.start)) / duration}%`;
    this.#classes.paint(mark, event.label);
    return mark;
  }
}
