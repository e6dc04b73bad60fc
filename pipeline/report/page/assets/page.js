"use strict";

{
  const get = (id) => document.getElementById(id);
  const {videos, failed, classes: names, hues, glow, nonce} = JSON.parse(get("index").textContent);
  let open = null; // the video that is shown, with its details
  let events = []; // those of its events that are shown
  let rows = new Map(); // of the events that are shown, their buttons in the list
  let now = []; // those of them at the position
  let pointed = null; // seconds under the mouse

  /** Write a text where it is another: even the same one again is a layout. True if it was another. */
  function write(id, text) {
    if (get(id).textContent === text) return false;
    get(id).textContent = text;
    return true;
  }

  const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

  const player = new Player(moved);
  const attention = new Attention(get("attention"), glow);
  const classes = new Classes(names, hues, videos, get("classes"), () => {
    list.filter();
    const listed = list.openIsListed ? null : (list.neighbour(1) ?? list.neighbour(-1));
    if (listed === null) showEvents();
    else show(listed);
  });
  const point = (seconds) => {
    pointed = seconds;
    if (open) describeSegment();
  };
  const timeline = new Timeline(classes, (seconds) => player.seek(seconds), point, nonce);
  const settleEvents = rove(get("events"));
  const list = new VideoList(videos, classes, (number) => {
    show(number);
    if (!matchMedia("(min-width: 60rem)").matches) {
      get("browser").open = false;
      get("name").scrollIntoView({block: "start"});
    }
  });

  function show(number) {
    const details = JSON.parse(get(`video-${number}`).textContent);
    open = {...videos[number], ...details, labels: unrolled(details.labels)};
    get("name").textContent = open.name;
    get("name").classList.toggle("hidden", open.name === document.querySelector("h1").textContent);
    get("position").max = String(open.duration);
    player.open(open.duration, open.contentType, open.link, get(`media-${number}`)?.textContent ?? null);
    attention.open(open.attention);
    timeline.open(open);
    list.mark(number);
    get("previous-video").disabled = list.neighbour(-1) === null;
    get("next-video").disabled = list.neighbour(1) === null;
    get("events").scrollTop = 0;
    showEvents();
  }

  function showEvents() {
    events = classes.visible(open.events);
    timeline.showEvents(events);
    rows = new Map();
    now = [];
    const items = events.map((event) => {
      const row = element("li");
      const button = element("button", "event");
      button.type = "button";
      const label = element("span", "label");
      label.append(element("span", "swatch"), event.label);
      if (event.beside) label.append(element("span", "beside", event.beside));
      const times = `${clock(event.start, true)}–${clock(event.end, true)}`;
      button.append(label, element("span", "when", times), element("span", "when", event.confidence.toFixed(2)));
      button.setAttribute("aria-label", describe(event));
      classes.paint(button, event.label);
      button.addEventListener("click", () => player.seek(event.start));
      row.append(button);
      rows.set(event, button);
      return row;
    });
    const hidden = open.events.length - events.length;
    const lasting = open.minimumSeconds > 1 ? `, each at least ${open.minimumSeconds} s long` : "";
    const none = "None: the network found nothing that is both seen and heard.";
    get("event-count").textContent = [
      events.length ? `${count(events.length, "event")}${lasting}: start–end, confidence.` : hidden ? "" : none,
      hidden ? `${count(hidden, "event")} of other classes hidden.` : "",
    ].join(" ");
    get("events").replaceChildren(...items);
    get("events").hidden = events.length === 0;
    settleEvents();
    get("previous-event").disabled = get("next-event").disabled = events.length === 0;
    get("previous-video").disabled = list.neighbour(-1) === null;
    get("next-video").disabled = list.neighbour(1) === null;
    moved();
  }

  /** Everything that follows the position. */
  function moved() {
    if (!open) return;
    const position = player.position;
    timeline.move(position, player.playing);
    attention.draw(segmentAt(position));
    const times = [clock(position, true), clock(open.duration, true)];
    if (write("time", times.join(" / "))) {
      get("position").value = String(position);
      get("position").setAttribute("aria-valuetext", `${times.join(" of ")}, ${open.labels[segmentAt(position)]}`);
    }
    write("play", player.playing ? "Pause" : "Play");
    get("mute").setAttribute("aria-pressed", String(player.muted));
    markNow(events.filter((event) => isNow(event, position)));
    describeSegment();
  }

  /** Change what has changed only: an hour has hundreds of events, and this runs with every picture. */
  function markNow(events) {
    const mark = (event, isNow) => {
      timeline.mark(event, isNow);
      rows.get(event).classList.toggle("now", isNow);
      rows.get(event).setAttribute("aria-current", String(isNow));
    };
    const added = events.filter((event) => !now.includes(event));
    for (const event of now) if (!events.includes(event)) mark(event, false);
    for (const event of added) mark(event, true);
    now = events;
    if (added.length) reveal(rows.get(added[0]).parentElement);
  }

  /** Scroll the list of events, and nothing else, to a row. */
  function reveal(row) {
    const events = get("events");
    const [inner, outer] = [row.getBoundingClientRect(), events.getBoundingClientRect()];
    if (inner.top < outer.top) events.scrollTop += inner.top - outer.top;
    else if (inner.bottom > outer.bottom) events.scrollTop += inner.bottom - outer.bottom;
  }

  function segmentAt(seconds) {
    return Math.min(Math.floor((seconds + 0.001) / open.segmentSeconds), open.event.length - 1);
  }

  /** Of each segment its class, from {names, runs: [[number of the name, count], ...]}. */
  function unrolled({names, runs}) {
    return runs.flatMap(([number, length]) => Array(length).fill(names[number]));
  }

  /** Class and numbers of the segment under the mouse, or else at the position. */
  function describeSegment() {
    const segment = segmentAt(pointed ?? player.position);
    const from = segment * open.segmentSeconds;
    const values = ["seen", "heard", "event"].map((name) => `${name} ${open[name][segment]?.toFixed(2) ?? "–"}`);
    const until = Math.min(from + open.segmentSeconds, open.duration);
    write("what", `${clock(from)}–${clock(until)} ${open.labels[segment]}:`);
    write("numbers", values.join(", "));
  }

  function toEvent(direction) {
    const position = player.position;
    const next =
      direction > 0
        ? events.find((event) => event.start > position + 0.01)
        : events.findLast((event) => event.start < position - 0.01);
    if (next) player.seek(next.start);
  }

  function toVideo(direction) {
    const number = list.neighbour(direction);
    if (number !== null) show(number);
  }

  function toggleAttention() {
    const shown = get("attention").hidden;
    get("attention").hidden = !shown;
    get("show-attention").setAttribute("aria-pressed", String(shown));
  }

  const zoom = (factor) => timeline.zoom(factor, player.position);
  const actions = {
    play: () => player.toggle(),
    mute: () => player.mute(),
    "previous-event": () => toEvent(-1),
    "next-event": () => toEvent(1),
    "previous-video": () => toVideo(-1),
    "next-video": () => toVideo(1),
    "show-attention": toggleAttention,
    "zoom-in": () => zoom(2),
    "zoom-out": () => zoom(0.5),
    "zoom-fit": () => zoom(0),
  };
  for (const [id, action] of Object.entries(actions)) get(id).addEventListener("click", action);
  get("position").addEventListener("input", (event) => player.seek(Number(event.target.value)));

  const keys = {
    " ": actions.play,
    ArrowLeft: (event) => player.seek(player.position - (event.shiftKey ? 10 : 1)),
    ArrowRight: (event) => player.seek(player.position + (event.shiftKey ? 10 : 1)),
    n: actions["next-event"],
    p: actions["previous-event"],
    N: actions["next-video"],
    P: actions["previous-video"],
    a: toggleAttention,
    m: actions.mute,
    "+": actions["zoom-in"],
    "-": actions["zoom-out"],
    0: actions["zoom-fit"],
    "/": () => {
      get("browser").open = true;
      get("find").focus();
    },
    c: () => {
      get("browser").open = true;
      get("class-buttons").firstChild.focus();
    },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !open) return;
    if (event.target.matches("input[type=search]")) return;
    if (event.key === " " && event.target.closest("button, summary, a")) return; // theirs
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key](event);
  });
  // Whoever presses a button with a mouse does not mean the space bar to press it again.
  document.addEventListener("click", (event) => {
    if (event.detail > 0 && event.target.closest("button")) document.activeElement.blur();
  });

  const eventCount = videos.reduce((sum, video) => sum + video.events.length, 0);
  get("summary").textContent = `${count(videos.length, "video")}, ${
    eventCount ? count(eventCount, "event") : "no event"
  } both seen and heard. Found by a network; nobody has checked it.`;
  const single = videos.length < 2;
  get("video-count").textContent = single ? "Files that could not be read" : `Videos (${videos.length})`;
  if (single) get("event-count").before(get("classes")); // no list of videos that it would filter
  get("layout").classList.toggle("one", single);
  get("list-part").hidden = get("video-steps").hidden = single;
  get("browser").hidden = single && !failed.length;
  get("browser").open = matchMedia("(min-width: 60rem)").matches;
  if (failed.length) {
    get("failed").hidden = false;
    get("failed").querySelector("summary").textContent = `${count(failed.length, "file")} could not be read`;
    get("failed").querySelector("ul").append(...failed.map(({name, reason}) => element("li", "", `${name}: ${reason}`)));
  }
  document.querySelector("main").hidden = videos.length === 0;
  if (videos.length) show(0);
}
