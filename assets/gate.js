/* Gates: at most one request of a kind is under way; what happens meanwhile is not lost but answered by the next one.
   A timer whose answer takes longer than its interval would otherwise never be drawn. */
(function () {
    "use strict";
    const ns = (window.dash_clientside = window.dash_clientside || {});
    const api = (ns.landscape = ns.landscape || {});
    const STUCK = 10000; // ms after which an answer is taken for lost (a restarted server)
    const SLOW = 30000; // the same for pictures: on a busy machine asking again too early would never let one finish
    const SETTLE = 250; // ms without a stroke after which a form is read
    const REPORT = 50; // ms that an input has to report what was typed before a button was pressed
    const POLL = 500; // ms between two looks at the jobs; while none is at work only every fourth is taken
    const SILENT = 6000; // ms without an answer after which the page says so
    const poll = { clock: null, busy: false, since: 0, tick: 0, active: true };

    function tick() {
        const now = Date.now();
        poll.tick += 1;
        const lost = now - poll.since > STUCK;
        if (poll.busy && now - Math.max(poll.since, poll.heard || 0) > SILENT) {
            document.body.classList.add("silent");
        }
        if ((poll.busy && !lost) || document.hidden || (!poll.active && poll.tick % 4 !== 0)) {
            return;
        }
        poll.busy = true;
        poll.since = now;
        ns.set_props("gate", { data: poll.tick });
    }

    // The page is there, or an answer has come.
    api.tock = function (answer) {
        poll.clock = poll.clock || setInterval(tick, POLL);
        poll.busy = false;
        poll.heard = Date.now();
        document.body.classList.remove("silent");
        if (answer) {
            poll.active = answer.busy || (poll.hurry || 0) > Date.now();
        }
        return ns.no_update;
    };

    // Something was launched: look often for a while, until the store knows of it.
    api.hurry = function (launches) {
        if (launches.some(Boolean)) {
            poll.hurry = Date.now() + 8000;
            poll.active = true;
        }
        return ns.no_update;
    };

    api.watched = function (lists, before) {
        const keys = Array.from(new Set(lists.flatMap((list) => list || []))).sort();
        return keys.join() === (before || []).join() ? ns.no_update : keys;
    };

    // The words and bars of the jobs on the screen, without building their rows anew.
    api.follow = function (pulse, words, bars) {
        // A row that went away since this was asked for has no id any more.
        const part = (name) => (id) => (id && pulse.jobs[id.key] ? pulse.jobs[id.key][name] : ns.no_update);
        return [words.map(part("words")), bars.map(part("progress"))];
    };

    // What stands anew in the parts of cards.
    api.deal = function (changes, ...parts) {
        const found = (id) => (id && changes && changes[id.card] && changes[id.card][id.part]) || ns.no_update;
        return parts.map((ids) => ids.map(found));
    };

    // What is being typed is read once the strokes pause: half a number is no question.
    const forms = {};
    api.settle = function (_values, _checked, about) {
        const form = (forms[about.name] = forms[about.name] || { timer: null, changes: 0 });
        clearTimeout(form.timer);
        form.changes += 1;
        form.timer = setTimeout(() => {
            if (location.pathname === about.path) {
                ns.set_props(about.name + "-settled", { data: form.changes });
            }
        }, SETTLE);
        return ns.no_update;
    };

    // A button that sends a form. Mantine's inputs report a stroke only after a timer and a drawing: they go first.
    api.press = function (clicks) {
        if (clicks) {
            const pressed = ns.callback_context.outputs_list.id;
            setTimeout(() => requestAnimationFrame(() => setTimeout(() => ns.set_props(pressed, { data: clicks }), 0)), REPORT);
        }
        return ns.no_update;
    };

    // Draw gate of a page: `want` is what should be on the screen; a draw under way is let finish first.
    const draws = {};
    let wants = 0;
    api.want = function (want, name, drawn) {
        const gate = (draws[name] = draws[name] || { busy: false, since: 0, pending: null, last: null });
        const text = JSON.stringify(want);
        if (drawn && gate.visit !== want.visit) {
            Object.assign(gate, { busy: false, pending: null, last: text, visit: want.visit });
        }
        if (text === gate.last && !gate.busy) {
            return ns.no_update;
        }
        if (gate.busy && gate.visit === want.visit && Date.now() - gate.since < SLOW) {
            gate.pending = want;
            return ns.no_update;
        }
        gate.busy = true;
        gate.since = Date.now();
        gate.last = text;
        gate.visit = want.visit; // the page was opened anew: nobody will answer for the one before
        gate.pending = null;
        wants += 1;
        return { ...want, id: wants, camera: api.camera(name) };
    };

    api.drawn = function (answer, about) {
        const gate = draws[about.name];
        if (!answer || !gate) {
            return ns.no_update;
        }
        gate.busy = false;
        const next = gate.pending === null ? ns.no_update : api.want(gate.pending, about.name);
        if (next !== ns.no_update) {
            // Not as this callback's output: Dash cuts a chain of callbacks that comes back to where it began.
            setTimeout(() => ns.set_props(about.name + "-want", { data: next }), 0);
        }
        return ns.no_update;
    };
})();
