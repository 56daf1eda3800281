// The what-if page's weights: a slider beside each field, and the three kept at a sum of 1.
"use strict";

const CENT = 100;

function weights(form) {
  return [...form.querySelectorAll("input[data-weight]")];
}

function slider(field) {
  return field.form.querySelector(`input[data-slides="${CSS.escape(field.id)}"]`);
}

// The others share what is left in the proportion that they had; the last takes what rounding leaves.
function rebalance(moved) {
  const all = weights(moved.form);
  const value = Math.min(Math.max(Number(moved.value) || 0, 0), 1);
  const others = all.filter((field) => field !== moved);
  const sum = others.reduce((total, field) => total + Number(field.value), 0);
  let left = Math.round((1 - value) * CENT * CENT);
  others.forEach((field, index) => {
    const share = sum > 0 ? Number(field.value) / sum : 1 / others.length;
    const part = index === others.length - 1 ? left : Math.min(Math.round((1 - value) * share * CENT) * CENT, left);
    field.value = String(part / CENT / CENT);
    left -= part;
  });
  for (const field of all) slider(field).value = field.value;
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-whatif]");
  if (!form) return;
  if ("slides" in event.target.dataset) {
    const field = document.getElementById(event.target.dataset.slides);
    field.value = event.target.value;
    rebalance(field);
  } else if ("weight" in event.target.dataset && event.target.value !== "" && event.target.validity.valid) {
    rebalance(event.target);
  }
}, true);

function reveal(root) {
  for (const node of root.querySelectorAll("input[data-slides], [data-needs-script]")) node.hidden = false;
}

document.addEventListener("DOMContentLoaded", () => reveal(document));
document.addEventListener("htmx:afterSettle", () => reveal(document));
