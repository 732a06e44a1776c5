// The composer's comforts: live counters, drag and drop, order by dragging. Everything works without it, too.

import { count } from "./js/counting.js";

const form = document.querySelector("form.compose");
const counters = form.querySelector(".counters");
const attached = form.querySelector(".attached");
const drop = form.querySelector(".drop");
const status = form.querySelector("[data-uploading]");

function recount() {
  const chosen = [...form.querySelectorAll("input[name=account]:checked")];
  counters.hidden = chosen.length === 0;
  counters.replaceChildren(...chosen.map((box) => {
    const limits = JSON.parse(box.dataset.limits);
    const line = document.createElement("li");
    if (!limits.max_chars) return line;
    const used = count[limits.counting](form.text.value, form.spoiler_text.value, limits.chars_per_url);
    line.textContent = `${box.dataset.handle}: ${limits.max_chars - used} left`;
    line.classList.toggle("over", used > limits.max_chars);
    return line;
  }));
}

async function upload(file) {
  const body = new FormData();
  body.append("file", file);
  status.textContent = `Uploading ${file.name} …`;
  const headers = { "X-CSRFToken": form.csrf_token.value };
  const answer = await fetch(form.dataset.upload, { method: "POST", body, headers });
  const said = await answer.json().catch(() => ({ error: "The upload did not work. Try again." }));
  status.textContent = answer.ok ? `${file.name} is added.` : said.error;
  if (answer.ok) attached.append(line(said));
}

function line(media) {
  const item = document.createElement("li");
  item.draggable = true;
  const id = Object.assign(document.createElement("input"), { type: "hidden", name: "media_id", value: media.id });
  const picture = media.kind === "video" ? document.createTextNode(media.filename)
    : Object.assign(document.createElement("img"), { src: media.thumbnail, alt: "" });
  const field = Object.assign(document.createElement("div"), { className: "field grow" });
  const label = Object.assign(document.createElement("label"), { textContent: "Description", htmlFor: `alt${media.id}` });
  const alt = Object.assign(document.createElement("textarea"), { id: `alt${media.id}`, name: `alt.${media.id}`, rows: 2 });
  field.append(label, alt);
  const remove = Object.assign(document.createElement("button"), { type: "button", className: "button button-small", textContent: "Remove" });
  remove.addEventListener("click", () => item.remove());
  item.append(id, picture, field, remove);
  return item;
}

async function uploadAll(files) {
  for (const file of files) await upload(file);
}

form.addEventListener("input", recount);
form.querySelector("#files").addEventListener("change", async (event) => {
  await uploadAll(event.target.files);
  event.target.value = "";
});
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  await uploadAll(event.dataTransfer.files);
});

let dragged = null;
attached.addEventListener("dragstart", (event) => { dragged = event.target.closest("li"); });
attached.addEventListener("dragover", (event) => {
  const over = event.target.closest("li");
  if (!dragged || !over || over === dragged) return;
  event.preventDefault();
  const after = over.compareDocumentPosition(dragged) & Node.DOCUMENT_POSITION_PRECEDING;
  if (after) over.after(dragged); else over.before(dragged);
});
recount();
