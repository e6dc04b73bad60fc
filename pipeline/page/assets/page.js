"use strict";

{
  const get = (id) => document.getElementById(id);
  const {clips, failed, peaksPerSecond, nonce} = JSON.parse(get("index").textContent);
  let open = null; // the clip that is shown, with its details
  let events = []; // those of its events that are shown
  let eventRows = [];
  let told = "";

  const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

  const player = new Player(moved);
  const attention = new Attention(get("attention"));
  const classes = new Classes(clips, get("classes"), () => {
    list.filter();
    showEvents();
  });
  const timeline = new Timeline(classes, (seconds) => player.seek(seconds), nonce);
  const list = new ClipList(clips, classes, (number) => {
    show(number);
    if (!matchMedia("(min-width: 60rem)").matches) {
      get("browser").open = false;
      get("name").scrollIntoView({block: "start"});
    }
  });

  function show(number) {
    const details = JSON.parse(get(`clip-${number}`).textContent);
    open = {...clips[number], ...details, peaksPerSecond};
    get("name").textContent = open.name;
    get("name").classList.toggle("hidden", open.name === document.querySelector("h1").textContent);
    get("position").max = String(open.duration);
    player.open(open.duration, open.contentType, open.link, get(`media-${number}`)?.textContent ?? null);
    attention.open(open.attention);
    timeline.open(open);
    list.mark(number);
    get("previous-clip").disabled = list.neighbour(-1) === null;
    get("next-clip").disabled = list.neighbour(1) === null;
    told = "";
    showEvents();
  }

  function showEvents() {
    events = classes.visible(open.events);
    timeline.showEvents(events);
    eventRows = events.map((event) => {
      const row = element("li");
      const button = element("button", "event");
      button.type = "button";
      const label = element("span", "label");
      label.append(element("span", "swatch"), event.label);
      const times = `${clock(event.start, true)}–${clock(event.end, true)}`;
      button.append(label, element("span", "when", times), element("span", "when", event.confidence.toFixed(2)));
      button.setAttribute("aria-label", describe(event));
      classes.paint(button, event.label);
      button.addEventListener("click", () => player.seek(event.start));
      row.append(button);
      return row;
    });
    const hidden = open.events.length - events.length;
    const rest = hidden ? `${count(hidden, "event")} of other classes hidden` : "Nothing is both seen and heard.";
    get("events").replaceChildren(...eventRows, ...(hidden || !events.length ? [element("li", "when", rest)] : []));
    get("previous-event").disabled = get("next-event").disabled = events.length === 0;
    get("previous-clip").disabled = list.neighbour(-1) === null;
    get("next-clip").disabled = list.neighbour(1) === null;
    moved();
  }

  /** Everything that follows the position. */
  function moved() {
    if (!open) return;
    const position = player.position;
    const segment = Math.min(Math.floor((position + 0.001) / open.segmentSeconds), open.both.length - 1);
    timeline.move(position, player.playing);
    attention.draw(segment);
    get("time").textContent = `${clock(position, true)} / ${clock(open.duration, true)}`;
    get("position").value = String(position);
    get("position").setAttribute("aria-valuetext", `${clock(position, true)} of ${clock(open.duration, true)}`);
    get("play").textContent = player.playing ? "Pause" : "Play";
    get("mute").setAttribute("aria-pressed", String(player.muted));
    events.forEach((event, i) => {
      const button = eventRows[i].firstChild;
      button.classList.toggle("now", isNow(event, position));
      button.setAttribute("aria-current", String(isNow(event, position)));
    });
    tell(segment);
  }

  /** The numbers of a segment, in words. */
  function tell(segment) {
    const from = segment * open.segmentSeconds;
    const values = ["seen", "heard", "both"].map((name) => `${name} ${open[name][segment]?.toFixed(2) ?? "–"}`);
    const text = `${clock(from)}–${clock(Math.min(from + open.segmentSeconds, open.duration))}: ${values.join(", ")}`;
    if (text === told) return;
    told = text;
    get("readout").textContent = text;
  }

  function toEvent(direction) {
    const position = player.position;
    const next =
      direction > 0
        ? events.find((event) => event.start > position + 0.01)
        : events.findLast((event) => event.start < position - 0.01);
    if (next) player.seek(next.start);
  }

  function toClip(direction) {
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
    "previous-clip": () => toClip(-1),
    "next-clip": () => toClip(1),
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
    N: actions["next-clip"],
    P: actions["previous-clip"],
    a: toggleAttention,
    m: actions.mute,
    "+": actions["zoom-in"],
    "-": actions["zoom-out"],
    0: actions["zoom-fit"],
    "/": () => {
      get("browser").open = true;
      get("find").focus();
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

  const eventCount = clips.reduce((sum, clip) => sum + clip.events.length, 0);
  get("summary").textContent = `${count(clips.length, "clip")}, ${count(eventCount, "event")} both seen and heard`;
  get("clip-count").textContent = clips.length > 1 ? `Clips (${clips.length})` : "Classes";
  const single = clips.length < 2;
  get("layout").classList.toggle("one", single);
  get("list-part").hidden = get("clip-steps").hidden = single;
  get("browser").hidden = single && get("classes").hidden && !failed.length;
  get("browser").open = matchMedia("(min-width: 60rem)").matches;
  if (failed.length) {
    get("failed").hidden = false;
    get("failed").querySelector("summary").textContent = `${count(failed.length, "file")} could not be read`;
    get("failed").querySelector("ul").append(...failed.map(({name, reason}) => element("li", "", `${name}: ${reason}`)));
  }
  document.querySelector("main").hidden = clips.length === 0;
  if (clips.length) show(0);
}
