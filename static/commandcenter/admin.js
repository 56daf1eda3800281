// Names what Django admin's own widgets leave without a name for screen readers.
"use strict";

function nameFields() {
  for (const field of document.querySelectorAll(".datetime input:not([aria-label])")) {
    const row = field.closest(".form-row, td");
    const label = row && row.querySelector("label, legend");
    const part = field.name.endsWith("_0") ? "date" : "time";
    field.setAttribute("aria-label", `${label ? label.textContent.trim().replace(/:$/, "") : ""} ${part}`.trim());
  }
  for (const field of document.querySelectorAll(".select2-search__field:not([aria-label])")) {
    field.setAttribute("aria-label", "Search");
  }
}

document.addEventListener("DOMContentLoaded", () => {
  nameFields();
  new MutationObserver(nameFields).observe(document.body, { childList: true, subtree: true });
});
