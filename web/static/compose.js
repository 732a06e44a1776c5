// The composer's comforts: live counters, uploads by drop, order by dragging, parts without a round trip.
// Everything works without it: each button is a real one that sends the form.

import { count } from "./js/counting.js";
import { pick, shown } from "./js/pictures.js";

const form = document.querySelector("form.compose");
const parts = form.querySelector(".parts");
const blank = document.getElementById("blank-part");

// -- counters: one line per chosen account, under each part

function recount() {
  const chosen = [...form.querySelectorAll("input[name=account]:checked")];
  for (const part of parts.children) {
    const counters = part.querySelector(".counters");
    counters.hidden = chosen.length === 0;
    counters.replaceChildren(...chosen.map((box) => counter(box, part.querySelector("textarea.text").value)));
    speakOf([...counters.querySelectorAll(".over")], part.querySelector("[data-too-long]"));
  }
  for (const extra of form.querySelectorAll("details[data-network]")) {
    extra.hidden = !chosen.some((box) => box.dataset.network === extra.dataset.network);
    if (extra.querySelector("[name$='.user_tags']")) form.toggleAttribute("data-no-tags", extra.hidden);
  }
}

// Read aloud only when a text becomes too long or fits again, not with every letter.
function speakOf(over, status) {
  const said = over.length ? `Too long for ${over.map((line) => line.dataset.handle).join(", ")}.` : "";
  if (status.textContent !== said) status.textContent = said;
}

function counter(box, text) {
  const limits = JSON.parse(box.dataset.limits);
  const line = document.createElement("li");
  if (!limits.max_chars) return line;
  const used = count[limits.counting](text, form.spoiler_text.value, limits.chars_per_url);
  line.dataset.handle = box.dataset.handle;
  line.textContent = `${box.dataset.handle}: ${limits.max_chars - used} left`;
  line.classList.toggle("over", used > limits.max_chars);
  return line;
}

// -- uploads

async function upload(part, file) {
  const status = part.querySelector("[data-uploading]");
  if (file.size > form.dataset.mostMb * 1024 * 1024) {
    status.textContent = `${file.name} is larger than the ${form.dataset.mostMb} MB that PostFlow takes. Make it smaller.`;
    return;
  }
  const body = new FormData();
  body.append("file", file);
  body.append("part", part.dataset.part);
  status.textContent = `Uploading ${file.name} …`;
  const headers = { "X-CSRFToken": form.csrf_token.value, Accept: "application/json" };
  const answer = await fetch(form.dataset.upload, { method: "POST", body, headers }).catch(() => null);
  if (answer?.ok) {
    const said = await answer.json();
    part.querySelector(".attached").insertAdjacentHTML("beforeend", said.line);
    shown(part.querySelector(".attached").lastElementChild);
    status.textContent = `${file.name} is added.`;
  } else {
    status.textContent = await why(answer);
  }
}

async function why(answer) {
  if (!answer) return "The upload did not work: PostFlow cannot be reached. Try again.";
  const said = await answer.text();
  try { return JSON.parse(said).error; } catch { return said || "The upload did not work. Try again."; }
}

async function uploadAll(part, files) {
  for (const file of [...files]) await upload(part, file);
}

// -- buttons that change the form: here without a round trip

function rearrange(button) {
  const item = button.closest(".piece");
  const list = item.parentElement;
  const before = order(list);
  if (button.name === "remove") item.remove();
  if (button.name === "earlier") item.previousElementSibling?.before(item);
  if (button.name === "later") item.nextElementSibling?.after(item);
  renumber(list, before);
  if (item.isConnected) button.focus(); else list.closest(".part").querySelector("input[type=file]").focus();
}

const order = (list) => [...list.children].map((item) => item.dataset.media);

// Marks that name pictures of the first part by their place ("1 @ada 0.50 0.30") follow their picture.
function renumber(list, before) {
  if (list.closest(".part").dataset.part) return;
  const after = order(list);
  for (const field of form.querySelectorAll("textarea[name$='.user_tags']")) {
    field.value = field.value.split("\n").flatMap((line) => {
      const [, number, rest] = line.match(/^\s*(\d+)\s*(.*)$/) ?? [];
      const media = before[number - 1];
      if (!number || !media) return [line];
      const place = after.indexOf(media) + 1;
      return place ? [`${place} ${rest}`.trim()] : [];
    }).join("\n");
  }
  for (const item of list.children) shown(item);
}

function addPart() {
  const taken = new Set([...parts.children].map((part) => part.dataset.part));
  let key = 1;
  while (taken.has(String(key))) key += 1;
  parts.insertAdjacentHTML("beforeend", blank.innerHTML.replaceAll("KEY", key));
  renumberParts();
  parts.lastElementChild.querySelector("textarea.text").focus();
}

function renumberParts() {
  [...parts.children].forEach((part, place) => {
    const number = part.querySelector(".part-number");
    if (number) number.textContent = place + 1;
  });
  recount();
}

form.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && ["remove", "earlier", "later"].includes(button.name)) {
    event.preventDefault();
    rearrange(button);
  } else if (button?.name === "drop") {
    event.preventDefault();
    button.closest(".part").remove();
    renumberParts();
  } else if (button?.value === "part") {
    event.preventDefault();
    addPart();
  } else if (event.target.closest(".pick")) {
    pick(event);
  }
});
form.addEventListener("input", (event) => {
  recount();
  if (event.target.name?.startsWith("focus_")) shown(event.target.closest(".piece"));
});
form.addEventListener("change", async (event) => {
  if (event.target.type !== "file") return;
  await uploadAll(event.target.closest(".part"), event.target.files);
  event.target.value = "";
});

// -- dropping files, dragging pictures

let dragged = null;
form.addEventListener("dragstart", (event) => { dragged = event.target.closest?.(".piece"); });
form.addEventListener("dragend", () => { dragged = null; });
form.addEventListener("dragover", (event) => {
  const drop = event.target.closest(".drop");
  if (drop) {
    event.preventDefault();
    drop.classList.add("over");
    return;
  }
  const over = event.target.closest(".piece");
  if (!dragged || !over || over === dragged || over.parentElement !== dragged.parentElement) return;
  event.preventDefault();
  const before = order(over.parentElement);
  const isAfter = over.compareDocumentPosition(dragged) & Node.DOCUMENT_POSITION_PRECEDING;
  if (isAfter) over.after(dragged); else over.before(dragged);
  renumber(over.parentElement, before);
});
form.addEventListener("dragleave", (event) => event.target.closest(".drop")?.classList.remove("over"));
form.addEventListener("drop", async (event) => {
  const drop = event.target.closest(".drop");
  if (!drop) return;
  event.preventDefault();
  drop.classList.remove("over");
  await uploadAll(drop.closest(".part"), event.dataTransfer.files);
});

// -- a check that got no answer says so

for (const kind of ["htmx:response:error", "htmx:error"]) {
  form.addEventListener(kind, () => {
    document.getElementById("check").textContent = "The check did not work. Try it again in a moment; nothing is lost.";
  });
}

for (const item of form.querySelectorAll(".piece")) shown(item);
recount();
