/* Stepping along the path of training: which checkpoints the pictures know, and the mark on each of them. */
(function () {
    "use strict";
    const ns = (window.dash_clientside = window.dash_clientside || {});
    const api = (ns.landscape = ns.landscape || {});

    const steppable = (traces) => (traces || []).findIndex((trace) => trace.meta && trace.meta.steps);

    // Every step that one of the pictures knows, in order.
    function stepsOf(figures) {
        const found = new Set();
        for (const figure of figures) {
            const place = steppable(figure && figure.data);
            (place < 0 ? [] : figure.data[place].meta.steps).forEach((step) => found.add(step));
        }
        return Array.from(found).sort((a, b) => a - b);
    }

    // Puts the mark on the last checkpoint that is not after `step`; gives what the picture knows of it.
    function mark(graph, step) {
        const traces = graph._fullData || [];
        const path = traces[steppable(traces)];
        const place = traces.findIndex((trace) => trace.meta && trace.meta.step);
        if (!path || place < 0) {
            return null;
        }
        const k = path.meta.steps.filter((other) => other <= step).length - 1;
        const at = (name) => [[k < 0 || !Number.isFinite(path[name][k]) ? null : path[name][k]]];
        const update = path.z ? { x: at("x"), y: at("y"), z: at("z") } : { x: at("x"), y: at("y") };
        window.Plotly.restyle(graph, update, [traces[place].index]);
        return k < 0 ? null : path.hovertext[k];
    }

    api.stepRange = function (figures) {
        const count = stepsOf(figures).length;
        return [count < 2, Math.max(1, count - 1)];
    };

    api.stepTo = function (value, figures, name, selection) {
        const steps = stepsOf(figures);
        const step = steps[Math.min(value, steps.length - 1)];
        if (step === undefined) {
            return ["", ns.no_update];
        }
        const box = document.getElementById(name);
        const round = (box.dataset.stepRound = String(Number(box.dataset.stepRound || 0) + 1));
        const wanted = figures.filter((figure) => figure && steppable(figure.data) >= 0).length;
        const look = () => {
            if (!box.isConnected || box.dataset.stepRound !== round) {
                return; // the page was left, or another step was chosen
            }
            const graphs = Array.from(box.querySelectorAll(".cell:not([hidden]) .js-plotly-plot")).filter(
                (graph) => steppable(graph._fullData) >= 0
            );
            if (graphs.length < wanted) {
                setTimeout(look, 100); // drawing may take a while
            }
            const known = graphs.map((graph) => mark(graph, step)).filter(Boolean);
            const words = known.length === 1 ? known[0].split("<br>").slice(1).join(" · ") : "";
            ns.set_props(name.replace(/-graphs$/, "-step-about"), { children: words });
        };
        setTimeout(look, 0);
        const query = new URLSearchParams(window.location.search);
        query.set("on", (selection || []).map((label) => label.replace(/@[^@]*$/, "") + "@" + step).join());
        return ["step " + step.toLocaleString("en"), window.location.pathname + "?" + query];
    };

    api.stepPlay = function (_clicks, _tick, value, max, idle) {
        const pressed = ns.callback_context.triggered[0].prop_id.endsWith("n_clicks");
        if (pressed) {
            return [idle && value >= max ? 0 : ns.no_update, !idle, idle ? "Stop" : "Play"];
        }
        const ends = value + 1 >= max;
        return [Math.min(value + 1, max), ends, ends ? "Play" : "Stop"];
    };
})();
