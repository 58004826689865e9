const options = { responsive: true, displayModeBar: false };

// A figure that is folded away has no width; it is drawn when it is unfolded.
function draw(root) {
  for (const box of root.querySelectorAll(".picture:not(.drawn)")) {
    if (box.offsetParent === null) continue;
    const figure = JSON.parse(box.nextElementSibling.textContent);
    box.classList.add("drawn");
    Plotly.newPlot(box, { ...figure, config: options });
  }
}

draw(document);
document.addEventListener("toggle", (event) => draw(event.target), true);

for (const box of document.querySelectorAll(".command")) {
  const button = box.querySelector("button");
  button.addEventListener("click", async () => {
    const code = box.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code); // a page from disk may not be allowed to copy
      button.textContent = document.execCommand("copy") ? "copied" : "selected";
    }
    setTimeout(() => (button.textContent = "copy"), 1500);
  });
}
