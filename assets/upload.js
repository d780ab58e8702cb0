/* Sending a file of weights: streamed as it is, with progress; what came of it goes into the page's store. */
(function () {
    "use strict";
    const ns = (window.dash_clientside = window.dash_clientside || {});
    const api = (ns.landscape = ns.landscape || {});

    function send(file, store, words) {
        const request = new XMLHttpRequest();
        const say = (text) => ns.set_props(words, { children: text });
        request.open("POST", "/upload?name=" + encodeURIComponent(file.name));
        request.setRequestHeader("X-Landscape-Upload", "1");
        request.setRequestHeader("Content-Type", "application/octet-stream");
        request.upload.onprogress = (event) => {
            if (event.lengthComputable) {
                say(`sending ${file.name}: ${Math.floor((100 * event.loaded) / event.total)} %`);
            }
        };
        request.onload = () => {
            if (request.status === 200) {
                ns.set_props(store, { data: JSON.parse(request.responseText) });
            } else {
                ns.set_props(store, { data: { error: request.responseText.slice(0, 300) || "the upload was refused" } });
            }
        };
        request.onerror = () => ns.set_props(store, { data: { error: "the server did not answer; send the file again" } });
        say(`sending ${file.name} …`);
        request.send(file);
    }

    // The button opens the browser's own file dialogue; nothing is read before a file is chosen.
    api.upload = function (clicks, about) {
        if (clicks) {
            const input = document.createElement("input");
            input.type = "file";
            input.accept = about.endings.join(",");
            input.onchange = () => {
                if (input.files.length) {
                    send(input.files[0], about.store, about.words);
                }
            };
            input.click();
        }
        return ns.no_update;
    };
})();
