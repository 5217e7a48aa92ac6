// Runs in an isolated world of every document: page scripts can neither see nor change it.
// page() is the walk that document.py does without a browser; act() carries out one action.
globalThis.turngym = (() => {
  "use strict";
  const SKIPPED = new Set(["script", "style", "template", "noscript", "head"]);
  const TEXTBOXES = new Set(["text", "search", "number"]);
  // What Python's str.split takes for white space, so that both walks collapse the same characters.
  const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g;
  const controls = Object.getOwnPropertyDescriptor(HTMLFormElement.prototype, "elements").get;
  const HERE = new Set(["", "_self", "_top", "_parent"]); // targets of a link that stays in its tab
  const MOST = 0.9; // of the window's height, that one Scroll moves the page
  const [QUIET, PATIENCE] = [100, 2000]; // milliseconds
  let own = new Set(); // origins of the episode's sites
  let nodes = []; // the elements of the last walk; number n is nodes[n - 1]

  const words = (text) => text.replace(SPACE, " ").replace(/^ | $/g, "");
  const kind = (node) => (node.getAttribute("type") || "text").toLowerCase();

  function label(node) {
    let named = node.getAttribute("aria-label");
    if (named === null && node.id) {
      const labels = document.getElementsByTagName("label");
      named = Array.from(labels).find((l) => l.htmlFor === node.id)?.textContent;
    }
    return words(named || "");
  }

  function select(node) {
    const options = Array.from(node.options);
    const shown = options[node.selectedIndex];
    const value = shown ? words(shown.textContent) : "";
    return ["select", label(node), value, options.map((o) => words(o.textContent))];
  }

  // [kind, text, value, options] of an element that can be acted on, else null.
  function element(node) {
    switch (node.localName) {
      case "a":
        return ["link", words(node.textContent), "", []];
      case "button":
        return ["button", words(node.textContent), "", []];
      case "textarea":
        return ["textbox", label(node), node.value, []];
      case "select":
        return select(node);
    }
    if (kind(node) === "submit") return ["button", words(node.getAttribute("value") || ""), "", []];
    if (TEXTBOXES.has(kind(node))) return ["textbox", label(node), node.value, []];
    return null;
  }

  const control = (node) =>
    ["button", "select", "textarea", "input"].includes(node.localName) ||
    (node.localName === "a" && node.hasAttribute("href"));

  function* visible(parent) {
    for (let node = parent.firstChild; node; node = node.nextSibling) {
      if (node.nodeType === Node.TEXT_NODE) yield node;
      if (node.nodeType !== Node.ELEMENT_NODE) continue;
      if (SKIPPED.has(node.localName) || node.hasAttribute("hidden")) continue;
      if (control(node)) yield node;
      else if (!(node.localName === "label" && node.hasAttribute("for"))) yield* visible(node);
    }
  }

  function page() {
    const blocks = [];
    let run = [];
    const flush = () => {
      const text = words(run.join(" "));
      if (text) blocks.push(text);
      run = [];
    };
    nodes = [];
    for (const node of document.body ? visible(document.body) : []) {
      if (node.nodeType === Node.TEXT_NODE) {
        run.push(node.data);
        continue;
      }
      const found = node.hasAttribute("disabled") ? null : element(node);
      if (!found) continue;
      flush();
      nodes.push(node);
      blocks.push(found);
    }
    flush();
    const path = location.href.slice(location.origin.length).split("#")[0];
    return { origin: location.origin, title: words(document.title), path, blocks };
  }

  const fire = (node, ...names) =>
    names.forEach((name) => node.dispatchEvent(new Event(name, { bubbles: true })));

  // Whether the form would submit to one of the episode's sites. Its attributes are read as attributes, because a
  // control named "action" or "elements" hides the property of that name.
  function leads(form, button) {
    const action = button?.getAttribute("formaction") || form.getAttribute("action") || location.href;
    return URL.canParse(action, document.baseURI) && own.has(new URL(action, document.baseURI).origin);
  }

  // Nothing of a submission may open a window; and the server judges the fields, because the bubble of the
  // browser's own validation is no part of the page, so that nobody would learn why nothing happened.
  function submit(form, button) {
    if (!leads(form, button)) return "away";
    form.removeAttribute("target");
    form.setAttribute("novalidate", "");
    button?.removeAttribute("formtarget");
    if (button) button.click(); // which does nothing when it is disabled, as the standard has it
    else HTMLFormElement.prototype.requestSubmit.call(form);
    return "done";
  }

  // A link to another window opens a tab, which the engine does, unless the page itself handles the click.
  function elsewhere(node) {
    if (!own.has(node.origin)) return "away";
    let wanted = false;
    const last = (event) => {
      wanted = !event.defaultPrevented;
      event.preventDefault();
    };
    window.addEventListener("click", last);
    node.click();
    window.removeEventListener("click", last);
    return wanted ? { open: node.href } : "done";
  }

  function follow(node) {
    if (node.hasAttribute("download")) return "download";
    if (!HERE.has(node.target.toLowerCase())) return elsewhere(node);
    if (node.protocol !== "javascript:" && !own.has(node.origin)) return "away";
    node.click();
    return "done";
  }

  function click(node) {
    if (node.localName === "a") return follow(node);
    if (node.type === "submit" && node.form) return submit(node.form, node);
    if (node.localName === "textarea" || node.localName === "input") node.focus();
    node.click();
    return "done";
  }

  // Where the pointer has to be; an element without a place cannot be pointed at.
  function point(node) {
    node.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
    const box = node.getBoundingClientRect();
    if (!box.width || !box.height) return "done";
    window.addEventListener("contextmenu", (event) => event.preventDefault(), { once: true }); // no menu of the browser's
    return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  }

  function scroll(part) {
    window.scrollBy({ top: part * window.innerHeight, behavior: "instant" });
    return "done";
  }

  function fill(node, text) {
    node.focus();
    node.value = text;
    fire(node, "input", "change");
    return "done";
  }

  function choose(node, text) {
    node.selectedIndex = Array.from(node.options).findIndex((o) => words(o.textContent) === text);
    fire(node, "input", "change");
    return "done";
  }

  // The Enter key in the focused text box: the page's own handlers first, then implicit submission.
  function enter() {
    const node = document.activeElement;
    if (!node || !nodes.includes(node) || !(node.localName === "textarea" || node.localName === "input"))
      return "done";
    const key = (name) =>
      node.dispatchEvent(
        new KeyboardEvent(name, { key: "Enter", code: "Enter", keyCode: 13, bubbles: true, cancelable: true }),
      );
    const wanted = key("keydown") && key("keypress");
    key("keyup");
    if (!wanted || !node.form) return "done";
    return submit(node.form, Array.from(controls.call(node.form)).find((e) => e.type === "submit"));
  }

  const later = (ms) => new Promise((done) => setTimeout(done, ms));
  // When a frame was drawn, so that handlers of scrolling and of the pointer have run; there is none in a hidden tab.
  const drawn = () => Promise.race([new Promise((done) => requestAnimationFrame(() => setTimeout(done))), later(100)]);

  // When nothing in the document has changed for QUIET, or after PATIENCE.
  function still() {
    return new Promise((done) => {
      const end = () => {
        observer.disconnect();
        clearTimeout(timer);
        done();
      };
      let timer = setTimeout(end, QUIET);
      const observer = new MutationObserver(() => {
        clearTimeout(timer);
        timer = setTimeout(end, QUIET);
      });
      observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
      setTimeout(end, PATIENCE);
    });
  }

  function begin(action, index, argument) {
    const node = nodes[index - 1];
    if (index && !node?.isConnected) return "gone";
    switch (action) {
      case "Click":
        return click(node);
      case "Type":
        return fill(node, argument);
      case "Search":
        fill(node, argument);
        return enter();
      case "Select Dropdown Option":
        return choose(node, argument);
      case "Press Enter":
        return enter();
      case "Hover":
      case "Right Click":
        return point(node);
      case "Scroll Down":
        return scroll(MOST);
      case "Scroll Up":
        return scroll(-MOST);
    }
    return "done";
  }

  // Carries out one action; origins are those of the episode's sites. What came of it ("done", "away", "gone",
  // "download", where to point, what to open), and the page once the scripts that it woke have had their turn.
  async function act(action, index, argument, origins) {
    own = new Set(origins);
    const done = begin(action, index, argument);
    if (action === "Wait") await still();
    else if (action.startsWith("Scroll")) await drawn();
    else await later(0);
    return [done, page()];
  }

  // The page after the pointer has moved or pressed.
  async function pointed() {
    await drawn();
    return page();
  }

  return { act, page, pointed };
})();
