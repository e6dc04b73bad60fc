"use strict";

/** The classes of all clips: their looks, and which of them are shown. None chosen means all. */
class Classes {
  static #HUES = 8;
  static #PATTERNS = ["", "striped", "lined"];

  #numbers;
  #chosen = new Set();

  constructor(clips, fieldset, changed) {
    const counts = new Map();
    for (const {events} of clips) for (const {label} of events) counts.set(label, (counts.get(label) ?? 0) + 1);
    const labels = [...counts.keys()].sort((a, b) => a.localeCompare(b));
    this.#numbers = new Map(labels.map((label, number) => [label, number]));
    fieldset.hidden = labels.length < 2;
    const holder = fieldset.querySelector("div");
    for (const label of labels) {
      const button = element("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      button.append(element("span", "swatch"), `${label} ${counts.get(label)}`);
      this.paint(button, label);
      button.addEventListener("click", () => {
        const chosen = !this.#chosen.delete(label);
        if (chosen) this.#chosen.add(label);
        button.setAttribute("aria-pressed", String(chosen));
        changed();
      });
      holder.append(button);
    }
  }

  get all() {
    return this.#chosen.size === 0;
  }

  /** The events of the classes that are shown. */
  visible(events) {
    return this.all ? events : events.filter(({label}) => this.#chosen.has(label));
  }

  /** Give an element its class's hue, and a pattern where the hues have run out. */
  paint(target, label) {
    const number = this.#numbers.get(label);
    target.style.setProperty("--hue", `var(--hue-${number % Classes.#HUES})`);
    const pattern = Classes.#PATTERNS[Math.floor(number / Classes.#HUES) % Classes.#PATTERNS.length];
    if (pattern) target.classList.add(pattern);
  }
}

/** All clips by name, each with its events in small; a search and the chosen classes say which are listed. */
class ClipList {
  #clips;
  #classes;
  #list = document.getElementById("list");
  #find = document.getElementById("find");
  #found = document.getElementById("found");
  #rows;
  #open = 0;

  constructor(clips, classes, open) {
    this.#clips = clips;
    this.#classes = classes;
    this.#rows = clips.map((clip, number) => {
      const row = element("li");
      const button = element("button");
      button.type = "button";
      button.title = clip.name;
      button.append(element("span", "name", clip.name), element("span", "strip"), element("span", "what"));
      button.addEventListener("click", () => open(number));
      row.append(button);
      return row;
    });
    this.#list.append(...this.#rows);
    this.#find.addEventListener("input", () => this.filter());
    this.filter();
  }

  /** List what the search and the classes ask for. */
  filter() {
    const wanted = this.#find.value.trim().toLowerCase();
    let shown = 0;
    this.#clips.forEach((clip, number) => {
      const events = this.#classes.visible(clip.events);
      const row = this.#rows[number];
      row.hidden = !clip.name.toLowerCase().includes(wanted) || (!this.#classes.all && events.length === 0);
      if (row.hidden) return;
      shown++;
      row.querySelector(".strip").replaceChildren(...events.map((event) => this.#mark(event, clip.duration)));
      const labels = [...new Set(events.map(({label}) => label))].join(", ");
      row.querySelector(".what").textContent = `${clock(clip.duration)} · ${labels || "no event"}`;
    });
    this.#found.textContent = shown === this.#rows.length ? "" : `${shown} of ${this.#rows.length} clips`;
  }

  /** Mark a clip as the open one. */
  mark(number) {
    this.#rows[this.#open].firstChild.removeAttribute("aria-current");
    this.#open = number;
    this.#rows[number].firstChild.setAttribute("aria-current", "true");
    this.#rows[number].scrollIntoView({block: "nearest"});
  }

  /** The next listed clip in a direction, or null. */
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
