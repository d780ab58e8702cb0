/* An analysis page in the browser: view options, what should be on the screen, copying and saving. */
(function () {
    "use strict";
    const ns = (window.dash_clientside = window.dash_clientside || {});
    const api = (ns.landscape = ns.landscape || {});

    api.view = function () {
        const view = {};
        for (const group of ns.callback_context.inputs_list) {
            for (const item of group) {
                view[item.id.name] = item.value;
            }
        }
        return view;
    };

    // The poll asks for these jobs as well, whether they run or not.
    api.keys = function (state) {
        return ((state && state.items) || []).flatMap((item) => [item.key, item.calibration]).filter(Boolean);
    };

    api.wanted = function (pulse, state, view, dark, present, about) {
        if (!state || !view || dark === undefined || dark === null) {
            return ns.no_update;
        }
        const keys = state.items.map((item) => item.key || null);
        const jobs = keys.map((key) => (key && pulse.jobs[key]) || null);
        const done = (i) => (jobs[i] ? jobs[i].state === "done" : about.done.includes(keys[i]));
        const want = {
            visit: about.visit,
            shown: state.items.map((item) => [item.text, item.label, item.key || null, item.problem]),
            error: state.error,
            versions: jobs.map((job, i) => (done(i) ? "done" : job && job.version)),
            running: keys.filter((key, i) => jobs[i] && ["running", "queued"].includes(jobs[i].state)),
            view: view,
            dark: dark,
            present: Boolean(present),
            opened: about.opened,
        };
        // The layout came with its first pictures: of a job that ends meanwhile they show only a part.
        const whole = keys.every((key, i) => !jobs[i] || (jobs[i].state === "done" && about.done.includes(key)));
        return api.want(want, about.name, whole && about.dark === dark && about.present === want.present);
    };

    const shown = (name) =>
        Array.from(document.querySelectorAll("#" + CSS.escape(name + "-graphs") + " .cell:not([hidden]) .js-plotly-plot"));

    function clicked() {
        const context = ns.callback_context;
        const trigger = context.triggered[0];
        return trigger && trigger.value ? context.triggered_id : null;
    }

    api.copy = async function (clicks, code) {
        const id = clicked();
        if (!id) {
            return ns.no_update;
        }
        const text = id.what === "link" ? location.href : code && code[id.what];
        if (!text) {
            return "There is nothing to copy yet";
        }
        try {
            await navigator.clipboard.writeText(text);
        } catch (error) {
            const area = document.createElement("textarea"); // an address other than localhost without https
            area.value = text;
            area.setAttribute("readonly", "");
            area.style.position = "fixed";
            area.style.opacity = "0";
            document.body.appendChild(area);
            area.select();
            const done = document.execCommand("copy");
            area.remove();
            if (!done) {
                return "The browser does not allow copying";
            }
        }
        return { link: "Link copied", python: "Python copied", command: "Command copied" }[id.what];
    };

    api.saveImages = async function (clicks, about, state) {
        const id = clicked();
        if (!id) {
            return ns.no_update;
        }
        const graphs = shown(about.name);
        if (!graphs.length) {
            return "There is no picture yet";
        }
        for (let i = 0; i < graphs.length; i += 1) {
            const graph = graphs[i];
            const size = { width: graph.offsetWidth, height: graph.offsetHeight };
            const address = await window.Plotly.toImage(graph, { format: id.format, scale: id.format === "png" ? 2 : 1, ...size });
            const label = (state.items[i] ? state.items[i].label : "picture").replace(/[^A-Za-z0-9._-]+/g, "-");
            const link = document.createElement("a");
            link.href = address;
            link.download = about.name + "-" + label + "." + id.format;
            document.body.appendChild(link);
            link.click();
            link.remove();
        }
        return graphs.length + (graphs.length === 1 ? " picture saved" : " pictures saved");
    };
})();
