"use strict";

/** An address without its escapes; as it is if they are no text. */
function readable(address) {
  try {
    return decodeURIComponent(address);
  } catch {
    return address;
  }
}

/** The video, or a bare clock where the browser cannot play it: seeking works all the same. */
class Player {
  #video = document.getElementById("video");
  #frame = document.getElementById("frame");
  #notice = document.getElementById("notice");
  #position = 0;
  #duration = 0;
  #playable = true;
  #object = null; // address of the open video's bytes
  #link = null; // address of its file, where the page does not hold it
  #moved;

  /** `moved` is called whenever the position, or whether it runs, has changed. */
  constructor(moved) {
    this.#moved = moved;
    const video = this.#video;
    const tick = () => {
      moved();
      if (!video.paused) requestAnimationFrame(tick);
    };
    video.addEventListener("play", tick);
    for (const name of ["pause", "seeked", "timeupdate", "ended", "volumechange"]) video.addEventListener(name, moved);
    video.addEventListener("click", () => this.toggle());
    video.addEventListener("loadedmetadata", () => this.#measure());
    video.addEventListener("error", () => {
      if (!video.hasAttribute("src")) return;
      this.#fail(
        this.#link !== null && video.error?.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED
          ? `There is no video at ${readable(this.#link)} from this page's folder, or this browser cannot play it. The ` +
              "videos are too large to be within the page: move them together with it."
          : "This browser cannot play the video."
      );
    });
  }

  /** Open a video: `base64` if the page holds it, else its address. */
  open(duration, contentType, link, base64) {
    if (this.#object) URL.revokeObjectURL(this.#object);
    this.#object = base64 === null ? null : URL.createObjectURL(new Blob([decodeBytes(base64)], {type: contentType}));
    this.#link = link;
    this.#duration = duration;
    this.#position = 0;
    this.#playable = true;
    this.#notice.hidden = true;
    this.#video.hidden = false;
    this.#video.src = this.#object ?? link;
  }

  get position() {
    return Math.min(this.#playable ? this.#video.currentTime : this.#position, this.#duration);
  }

  get playing() {
    return !this.#video.paused;
  }

  get muted() {
    return this.#video.muted;
  }

  seek(seconds) {
    this.#position = Math.max(0, Math.min(seconds, this.#duration));
    this.#video.currentTime = this.#position;
    this.#moved();
  }

  toggle() {
    if (!this.#playable) return;
    if (this.playing) this.#video.pause();
    else this.#video.play().catch(() => {}); // the error event has the reason
  }

  mute() {
    this.#video.muted = !this.#video.muted;
  }

  #measure() {
    const {videoWidth, videoHeight} = this.#video;
    if (videoWidth) this.#frame.style.setProperty("--ratio", String(videoWidth / videoHeight));
    else this.#notify("This browser plays the audio but cannot show the frames.");
  }

  #fail(reason) {
    this.#position = this.position;
    this.#playable = false;
    this.#video.hidden = true;
    this.#notify(`${reason} Its tracks and events are below, and you can move through them all the same.`);
    this.#moved();
  }

  #notify(text) {
    this.#notice.textContent = text;
    this.#notice.hidden = false;
  }
}
