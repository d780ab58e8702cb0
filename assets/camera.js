/* One camera for all 3-D pictures of a page: turning one turns the others, while it is dragged and when it is let go. */
(function () {
    "use strict";
    const ns = (window.dash_clientside = window.dash_clientside || {});
    const api = (ns.landscape = ns.landscape || {});
    const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

    const IDLE = 10000; // ms without a movement after which a drag counts as over

    const plots = (box) =>
        Array.from(box.querySelectorAll(".cell:not([hidden]) .js-plotly-plot")).filter(
            (graph) => graph._fullLayout && graph._fullLayout.scene
        );

    const cameraOf = (graph) => graph.layout && graph.layout.scene && graph.layout.scene.camera;

    function moved(event) {
        return event && (event["scene.camera"] || null);
    }

    function attach(graph, box) {
        if (graph.dataset.linked) {
            return;
        }
        graph.dataset.linked = "1";
        // The event carries the camera of the frame before: while it is dragged, the others follow what is on the screen.
        let dragged = 0;
        let shown = null;
        const follow = () => {
            if (!dragged || Date.now() - dragged > IDLE) {
                dragged = 0;
                return;
            }
            const source = graph._fullLayout && graph._fullLayout.scene && graph._fullLayout.scene._scene;
            const camera = source && source.getCamera && source.getCamera();
            if (camera && !same(camera, shown)) {
                shown = camera;
                for (const other of plots(box)) {
                    const layout = other._fullLayout.scene;
                    if (other !== graph && layout._scene && layout._scene.setViewport) {
                        layout._scene.setViewport({ camera, aspectmode: layout.aspectmode, aspectratio: layout.aspectratio });
                    }
                }
            }
            requestAnimationFrame(follow);
        };
        graph.on("plotly_relayouting", (event) => {
            if (!moved(event)) {
                return;
            }
            const begins = !dragged;
            dragged = Date.now();
            if (begins) {
                requestAnimationFrame(follow);
            }
        });
        graph.on("plotly_relayout", (event) => {
            const camera = moved(event);
            if (!camera) {
                return;
            }
            dragged = 0;
            box.dataset.camera = JSON.stringify(camera);
            for (const other of plots(box)) {
                if (other !== graph && !same(cameraOf(other), camera)) {
                    window.Plotly.relayout(other, { "scene.camera": camera });
                }
            }
        });
    }

    // The camera of a page's pictures, once somebody has turned them: new pictures are drawn as seen from there.
    api.camera = function (name) {
        const box = document.getElementById(name + "-graphs");
        return box && box.dataset.camera ? JSON.parse(box.dataset.camera) : null;
    };

    // After new figures: link the graphs that are new, and turn them as the others are turned. Drawing may take a while.
    api.linkCameras = function (figures, name) {
        const box = document.getElementById(name);
        const wanted = figures.filter((figure) => figure && (figure.data || []).some((trace) => trace.type === "surface")).length;
        const round = (box.dataset.round = String(Number(box.dataset.round || 0) + 1));
        const look = () => {
            if (!box.isConnected || box.dataset.round !== round) {
                return; // the page was left, or newer figures came
            }
            const found = plots(box);
            const camera = box.dataset.camera && JSON.parse(box.dataset.camera);
            for (const graph of found) {
                attach(graph, box);
                if (camera && !same(cameraOf(graph), camera)) {
                    window.Plotly.relayout(graph, { "scene.camera": camera });
                }
            }
            if (found.length < wanted) {
                setTimeout(look, 250);
            }
        };
        setTimeout(look, 0);
        return ns.no_update;
    };
})();
