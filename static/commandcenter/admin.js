// Names what Django admin's own widgets leave without a name for screen readers.
"use strict";

function nameFields() {
  for (const field of document.querySelectorAll(".datetime input:not([aria-label])")) {
    const row = field.closest(".form-row, td");
    const label = row && row.querySelector("label, legend");
    const part = field.name.endsWith("_0") ? "date" : "time";
    field.setAttribute("aria-label", `${label ? label.textContent.trim().replace(/:$/, "") : ""} ${part}`.trim());
  }
  for (const box of document.querySelectorAll(".select2-container:not([data-named])")) {
    const select = box.previousElementSibling;
    const label = select && document.querySelector(`label[for="${CSS.escape(select.id)}"]`);
    const name = label ? label.textContent.trim().replace(/:$/, "") : "Choose";
    box.dataset.named = "1";
    for (const part of box.querySelectorAll(".select2-selection, .select2-selection__rendered[role]")) {
      part.removeAttribute("aria-labelledby");
      part.setAttribute("aria-label", name);
    }
  }
  const search = document.getElementById("searchbar");
  if (search) search.setAttribute("aria-label", "Search");
  for (const icon of document.querySelectorAll(".help-tooltip:not([role])")) icon.setAttribute("role", "img");
  for (const field of document.querySelectorAll(".select2-search__field:not([aria-label])")) {
    field.setAttribute("aria-label", "Search");
  }
}

document.addEventListener("DOMContentLoaded", () => {
  nameFields();
  new MutationObserver(nameFields).observe(document.body, { childList: true, subtree: true });
});
