// Draws every div.vegalite of the page; vegaEmbed comes with the bundle that this is put into.

const palettes = {
  light: { ink: "#222222", text: "#333333", grid: "#d5d5d5" },
  dark: { ink: "#f2f2f2", text: "#cfd3d8", grid: "#4a4f55" },
};

function theme() {
  return document.documentElement.dataset.theme === "dark" ? "dark" : "light";
}

// The page, not the chart, knows whether it is light or dark.
function themed(spec) {
  const { ink, text, grid } = palettes[theme()];
  const config = spec.config || {};
  const add = (part, colours) => ({ ...config[part], ...colours });
  return {
    ...spec,
    config: {
      ...config,
      title: add("title", { color: ink, subtitleColor: text }),
      axis: add("axis", { labelColor: text, titleColor: text, gridColor: grid, tickColor: grid }),
      header: add("header", { labelColor: ink, titleColor: text }),
      legend: add("legend", { labelColor: text, titleColor: text }),
      style: { ...config.style, ink: { color: ink } },
    },
  };
}

async function draw(host) {
  const spec = JSON.parse(host.querySelector("script").textContent);
  const chart = document.createElement("div");
  chart.className = "chart";
  const options = {
    renderer: "svg",
    actions: { export: true, source: false, compiled: false, editor: false },
    tooltip: { theme: theme() },
  };
  try {
    await vegaEmbed(chart, themed(spec), options);
    host.dataset.drawn = "true";
  } catch (error) {
    chart.textContent = `This chart could not be drawn: ${error.message}`;
    console.error(error);
  }
  host.querySelector(".chart")?.remove();
  host.append(chart);
}

let drawn;
let drawing = Promise.resolve();

// One pass after the other: the page sets its theme while it loads, and readers may change it.
function drawAll() {
  drawing = drawing.then(async () => {
    if (drawn === theme()) return;
    drawn = theme();
    for (const host of document.querySelectorAll("div.vegalite")) await draw(host);
  });
}

drawAll();
new MutationObserver(drawAll).observe(document.documentElement, {
  attributes: true,
  attributeFilter: ["data-theme"],
});
