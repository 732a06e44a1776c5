// Pointing at a picture: where its focal point is, and who is on it. The fields it fills can be typed by hand as well.

const form = document.querySelector("form.compose");
const tags = form?.querySelector("textarea[name$='.user_tags']");

// A click sets the focal point, or the place of a tag while somebody is being tagged.
export function pick(event) {
  const item = event.target.closest(".piece");
  const box = item.querySelector(".pick").getBoundingClientRect();
  const x = within((event.clientX - box.left) / box.width);
  const y = within((event.clientY - box.top) / box.height);
  if (item.dataset.tagging) return place(item, x, y);
  item.querySelector("details.focus").open = true;
  field(item, "left").value = Math.round(x * 100);
  field(item, "top").value = Math.round(y * 100);
  shown(item);
}

// The marks of one picture, as its fields have them.
export function shown(item) {
  const box = item.querySelector(".pick");
  if (!box || !field(item, "left")) return;
  const typed = [field(item, "left").value, field(item, "top").value];
  const spot = box.querySelector(".spot");
  spot.hidden = typed.every((said) => said.trim() === "");
  put(spot, ...typed.map((said) => Number(said.replace(",", ".") || 50)));
  for (const hint of item.querySelectorAll("[data-script]")) hint.hidden = false;
  box.querySelectorAll(".tag-spot").forEach((mark) => mark.remove());
  if (!tags || item.closest(".part").dataset.part) return;
  offerTagging(item);
  for (const [, number, name, x, y] of tags.value.matchAll(/^\s*(\d+)\s+@?(\S+)\s+([\d.]+)\s+([\d.]+)\s*$/gm)) {
    if (Number(number) !== numberOf(item)) continue;
    const mark = Object.assign(document.createElement("span"), { className: "tag-spot", textContent: `@${name}` });
    put(mark, x * 100, y * 100);
    box.append(mark);
  }
}

function offerTagging(item) {
  const row = item.querySelector(".tag");
  if (row.childElementCount) return;
  row.hidden = false;
  const button = Object.assign(document.createElement("button"), { type: "button", className: "button button-small", textContent: "Tag somebody on Instagram" });
  const label = Object.assign(document.createElement("label"), { textContent: "Who? Then click where they are on the picture", hidden: true, htmlFor: `tag${item.dataset.media}` });
  const name = Object.assign(document.createElement("input"), { id: `tag${item.dataset.media}`, placeholder: "@name", hidden: true, autocapitalize: "none" });
  button.addEventListener("click", () => {
    const on = !item.dataset.tagging;
    if (on) item.dataset.tagging = "yes"; else delete item.dataset.tagging;
    label.hidden = name.hidden = !on;
    button.textContent = on ? "Done" : "Tag somebody on Instagram";
    if (on) name.focus();
  });
  // Enter here must not send the form: it tags in the middle, the place can be changed in the list below.
  name.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    place(item, 0.5, 0.5);
  });
  row.append(label, name, button);
}

function place(item, x, y) {
  const input = item.querySelector(".tag input");
  const name = input.value.trim().replace(/^@/, "");
  if (!/^[\w.]+$/.test(name)) return input.focus();
  const lines = tags.value.split("\n").filter((line) => line.trim() !== "");
  tags.value = [...lines, `${numberOf(item)} @${name} ${x.toFixed(2)} ${y.toFixed(2)}`].join("\n");
  tags.closest("details").open = true;
  input.value = "";
  input.focus();
  shown(item);
}

tags?.addEventListener("input", () => document.querySelectorAll(".piece").forEach(shown));

const field = (item, side) => item.querySelector(`input[name^='focus_${side}']`);
const numberOf = (item) => [...item.parentElement.children].indexOf(item) + 1;
const within = (share) => Math.min(1, Math.max(0, share));

function put(mark, left, top) {
  mark.style.left = `${Math.min(100, Math.max(0, left))}%`;
  mark.style.top = `${Math.min(100, Math.max(0, top))}%`;
}
