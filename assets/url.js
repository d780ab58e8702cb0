/* The address is the state. Links and the back button tell the server what to show; what controls change is written into the
   address without laying the page out again. */
(function () {
    "use strict";
    const ns = (window.dash_clientside = window.dash_clientside || {});
    const api = (ns.landscape = ns.landscape || {});
    const KEEP = /%(40|2C|3A|5B|5D)/gi; // readable in an address and allowed there: @ , : [ ]

    const isDark = () => document.documentElement.getAttribute("data-mantine-color-scheme") === "dark";
    const here = () => ({ path: location.pathname, search: location.search, dark: isDark() });
    const encode = (text) => encodeURIComponent(text).replace(KEEP, decodeURIComponent);
    const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value));

    let started = false;
    api.start = function () {
        if (!started) {
            started = true;
            let visits = 0;
            const go = () => {
                visits += 1;
                ns.set_props("route", { data: { ...here(), visit: visits } });
            };
            window.addEventListener("popstate", go);
            window.addEventListener("_dashprivate_pushstate", go); // what links send
        }
        return { ...here(), visit: 0 };
    };

    // As if a link had been followed. Two answers of the server may both say so: the way back is one step all the same.
    api.go = function (address) {
        if (address && new URL(address, location.href).pathname !== location.pathname) {
            history.pushState({}, "", address);
            window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
            window.scrollTo(0, 0);
        }
        return ns.no_update;
    };

    function parts() {
        return Array.from(new URLSearchParams(location.search).entries());
    }

    function write(pairs, push) {
        const search = pairs.map(([name, value]) => encode(name) + "=" + encode(value)).join("&");
        const current = parts().map(([name, value]) => encode(name) + "=" + encode(value)).join("&");
        if (search === current) {
            return false;
        }
        const address = location.pathname + (search ? "?" + search : "") + location.hash;
        if (push) {
            history.pushState({}, "", address);
        } else {
            history.replaceState(history.state, "", address);
        }
        return true;
    }

    // Another selection is a step that the back button undoes.
    api.writeSelection = function (selection) {
        if (!selection) {
            return ns.no_update;
        }
        const old = parts();
        const named = old.filter(([name]) => name === "on").flatMap(([, value]) => value.split(","));
        const before = Array.from(new Set(named.map((text) => text.trim()).filter(Boolean))).slice(0, 4);
        if (before.join() !== selection.join()) {
            const rest = old.filter(([name]) => name !== "on");
            write(selection.length ? [["on", selection.join()], ...rest] : rest, true);
        }
        return ns.no_update;
    };

    // A page's Spec and view replace those in the address; what is wrong in the form is not written.
    api.writePage = function (state, view, about) {
        if (!state || state.error || !view || location.pathname !== about.path) {
            return ns.no_update;
        }
        const kept = parts().filter(([name]) => name === "on");
        const present = parts().filter(([name]) => name === "present");
        const fields = Object.entries(state.fields);
        const views = Object.entries(view)
            .filter(([name, value]) => value !== about.defaults[name])
            .map(([name, value]) => ["v." + name, textOf(value)]);
        write([...kept, ...fields, ...views, ...present], false);
        return ns.no_update;
    };

    function links(on, present, ids) {
        const query = [];
        if (on) {
            query.push("on=" + encode(on));
        }
        if (present) {
            query.push("present=1");
        }
        return ids.map((id) => id.nav + (query.length ? "?" + query.join("&") : ""));
    }

    // Until the server has read the address, the links carry on what it says.
    api.arrive = function (route, ids) {
        const asked = new URLSearchParams(location.search);
        const path = "/" + (route || here()).path.replace(/^\/+|\/+$/g, "");
        const names = ids.map((id) => "rail-link" + (id.nav === path ? " rail-here" : ""));
        return [links(asked.get("on"), asked.has("present"), ids), names];
    };

    api.navigation = function (selection, present, ids) {
        return links((selection || []).join(), present, ids);
    };

    api.togglePresent = function (clicks, present) {
        if (!clicks) {
            return ns.no_update;
        }
        const rest = parts().filter(([name]) => name !== "present");
        write(present ? rest : [...rest, ["present", "1"]], false);
        return !present;
    };

    api.showPresent = function (present) {
        document.documentElement.toggleAttribute("data-present", Boolean(present));
        window.dispatchEvent(new Event("resize")); // the pictures take the room that the controls leave
        return ns.no_update;
    };

    api.showTitle = function (title) {
        if (title) {
            document.title = title;
        }
        return ns.no_update;
    };

    // Light or dark as the page shows it, for the pictures.
    let watching = false;
    api.dark = function () {
        const root = document.documentElement;
        if (!watching) {
            watching = true;
            let last = isDark();
            new MutationObserver(() => {
                if (isDark() !== last) {
                    last = isDark();
                    ns.set_props("dark", { data: last });
                }
            }).observe(root, { attributes: true, attributeFilter: ["data-mantine-color-scheme"] });
        }
        return isDark();
    };
})();
