// What every page does. Everything works without it; this only makes it kinder.

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  if (event.defaultPrevented || form.hasAttribute("data-many")) return;
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 8000);
});

// Coming back with the browser's button, the form may be sent anew.
window.addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

// The first run and the profile propose the zone this computer is set to.
for (const select of document.querySelectorAll("select[data-guess-zone]")) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if ([...select.options].some((option) => option.value === zone)) select.value = zone;
}

// After a refused form, the first field to correct has the cursor.
document.querySelector("[aria-invalid='true']")?.focus();

// An open page renews itself while posts go out, but takes nothing away from under somebody's fingers.
document.addEventListener("htmx:before:request", (event) => {
  const renewed = event.target;
  if (renewed.id && renewed.matches("[hx-trigger^='every']") && renewed.contains(document.activeElement)
    && document.activeElement.matches("input, select, textarea")) event.preventDefault();
});
