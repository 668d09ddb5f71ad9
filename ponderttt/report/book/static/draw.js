// Draws every div.vegalite of the page; vegaEmbed comes with the bundle that this is put into.

const palettes = {
  light: { ink: "#222222", text: "#333333", grid: "#d5d5d5" },
  dark: { ink: "#f2f2f2", text: "#cfd3d8", grid: "#4a4f55" },
};

// The page, not the chart, knows whether it is light or dark.
function themed(spec) {
  const { ink, text, grid } = palettes[document.documentElement.dataset.theme] || palettes.light;
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
  let target = host.querySelector(".chart");
  if (!target) {
    target = document.createElement("div");
    target.className = "chart";
    host.append(target);
  }
  const options = {
    renderer: "svg",
    actions: { export: true, source: false, compiled: false, editor: false },
    tooltip: { theme: document.documentElement.dataset.theme === "dark" ? "dark" : "light" },
  };
  try {
    await vegaEmbed(target, themed(spec), options);
    host.dataset.drawn = "true";
  } catch (error) {
    target.textContent = `This chart could not be drawn: ${error.message}`;
    console.error(error);
  }
}

function drawAll() {
  document.querySelectorAll("div.vegalite").forEach(draw);
}

drawAll();
new MutationObserver(drawAll).observe(document.documentElement, {
  attributes: true,
  attributeFilter: ["data-theme"],
});
