// Shows /openapi.json for reading. Everything from the document enters the page as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
// Objects inside objects are shown down to here; deeper ones by name only.
const DEPTH_MAX = 5;
const LIMITS = [
  ["minLength", "at least # characters"], ["maxLength", "at most # characters"],
  ["minimum", "at least #"], ["maximum", "at most #"],
  ["exclusiveMinimum", "more than #"], ["exclusiveMaximum", "less than #"], ["multipleOf", "a multiple of #"],
  ["minItems", "at least # items"], ["maxItems", "at most # items"],
  ["minProperties", "at least # members"], ["maxProperties", "at most # members"], ["pattern", "pattern #"],
];
const STATUS = {
  200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 302: "Found", 303: "See Other", 304: "Not Modified",
  400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict",
  410: "Gone", 412: "Precondition Failed", 413: "Content Too Large", 415: "Unsupported Media Type", 500: "Internal Server Error",
  422: "Unprocessable Content", 428: "Precondition Required", 429: "Too Many Requests", 503: "Service Unavailable",
};

let api = {};

const byId = (id) => document.getElementById(id);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const list = (value) => (Array.isArray(value) ? value : []);
const entries = (value) => (isObject(value) ? Object.entries(value) : []);
const own = (object, key) => (isObject(object) && Object.hasOwn(object, key) ? object[key] : undefined);

// A new element. Children are elements, texts, or nothing.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== "") element.append(child);
  }
  return element;
}

const deprecated = () => make("span", { class: "deprecated" }, "deprecated");
const code = (text) => make("code", {}, String(text));
// A long path or name may break after these.
const breaking = (text, after) => make("code", {}, text.split(after).flatMap((part) => [part, make("wbr")]));

// The texts, code spans and strong words of one paragraph. A link keeps its text only.
function spans(text) {
  const plain = text.replace(/\[(`[^`]+`)\](?:\([^)]*\))?|\[([^\]]+)\]\([^)]*\)/g, (_, name, words) => name ?? words);
  return plain.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (/^`[^`]+`$/.test(part)) return code(part.slice(1, -1));
    return /^\*\*[^*]+\*\*$/.test(part) ? make("strong", {}, part.slice(2, -2)) : part;
  });
}

// A description: paragraphs and lists of Markdown; everything else stays as it is written.
function prose(text) {
  if (typeof text !== "string" || text.trim() === "") return [];
  const joined = (lines) => spans(lines.trim().replace(/\s*\n\s*/g, " "));
  return text.trim().split(/\n\s*\n/).flatMap((block) => {
    const [before, ...items] = `\n${block}`.split(/\n\s*[-*] +/);
    const paragraph = before.trim() === "" ? [] : [make("p", {}, joined(before))];
    return items.length === 0 ? paragraph : [...paragraph, make("ul", {}, items.map((item) => make("li", {}, joined(item))))];
  });
}

// What a local reference points to; what is none is returned as it is. References in a circle end as nothing.
function resolve(thing) {
  for (let hops = 0; hops < 20; hops += 1) {
    const reference = own(thing, "$ref");
    if (typeof reference !== "string") return isObject(thing) ? thing : {};
    if (!reference.startsWith("#/")) return {};
    const unescaped = (step) => decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~");
    const steps = reference.slice(2).split("/").map(unescaped);
    const target = steps.reduce((at, step) => own(at, step), api);
    thing = isObject(target) ? { ...target, ...(thing.description ? { description: thing.description } : {}) } : {};
  }
  return {};
}

const nameOf = (schema) => (typeof own(schema, "$ref") === "string" ? schema.$ref.split("/").pop() : own(schema, "title"));
const asText = (value, indent) => (typeof value === "string" ? value : JSON.stringify(value, null, indent));
const isNull = (schema) => own(schema, "type") === "null";

// A schema as one object: references followed, allOf joined, "or null" noted, the other alternatives in `forms`.
function flat(schema, depth = 0) {
  const found = { ...resolve(schema), name: nameOf(schema) };
  if (depth > 20) return found;
  for (const part of list(found.allOf)) {
    const joined = flat(part, depth + 1);
    found.parts = [...list(found.parts), ...list(joined.parts), joined.name];
    found.properties = { ...joined.properties, ...found.properties };
    found.required = [...list(found.required), ...list(joined.required)];
    for (const key of ["type", "enum", "format", "description", "forms", "items"]) found[key] ??= joined[key];
    found.nullable ||= joined.nullable;
  }
  const types = list(found.type);
  if (types.includes("null")) found.nullable = true;
  if (types.length > 0) found.type = types.filter((type) => type !== "null").join(" or ");
  const all = [...list(found.oneOf), ...list(found.anyOf)];
  if (all.length === 0) return found;
  const forms = all.filter((form) => !isNull(resolve(form)));
  const nullable = found.nullable || forms.length < all.length;
  if (forms.length === 1) {
    const only = flat(forms[0], depth + 1);
    return { ...only, description: found.description ?? only.description, nullable: nullable || only.nullable };
  }
  const constants = forms.map((form) => list(resolve(form).enum).concat(own(resolve(form), "const") ?? []));
  if (constants.every((values) => values.length > 0)) {
    return { ...found, type: "string", enum: constants.flat(), nullable, choices: forms };
  }
  return { ...found, forms, nullable };
}

// A schema's type in a few words.
function typeOf(schema, depth = 0) {
  const found = flat(schema);
  let words = found.type ?? (found.properties ? "object" : found.enum || "const" in found ? "value" : "anything");
  if (found.forms) words = depth > 2 ? "one of several" : found.forms.map((form) => typeOf(form, depth + 1)).join(" or ");
  else if (found.type === "array") words = depth > 2 || !found.items ? "list" : `list of ${typeOf(found.items, depth + 1)}`;
  else if (words === "object" && found.name) words = `object ${found.name}`;
  if (found.format) words += ` (${found.format})`;
  return found.nullable && depth === 0 ? `${words}, or null` : words;
}

// Limits, choices and the default, each a short line.
function bounds(found) {
  const lines = LIMITS.filter(([key]) => key in found).map(([key, words]) => {
    const [before, after] = words.split("#");
    return make("li", {}, before, code(found[key]), after);
  });
  const described = list(found.choices).map(resolve).filter((choice) => choice.description);
  if ("const" in found) lines.push(make("li", {}, "always ", code(found.const)));
  if (described.length > 0) {
    const choices = list(found.choices).map(resolve);
    const value = (choice) => code(choice.const ?? list(choice.enum).join(", "));
    const one = (choice) => make("li", {}, value(choice), choice.description ? [": ", ...spans(choice.description)] : []);
    lines.push(make("li", {}, "one of ", make("ul", {}, choices.map(one))));
  } else if (found.enum) {
    lines.push(make("li", {}, "one of ", found.enum.flatMap((value, at) => [at > 0 ? ", " : "", code(value ?? "null")])));
  }
  if (found.uniqueItems) lines.push(make("li", {}, "no item twice"));
  if (found.default !== undefined) lines.push(make("li", {}, "default ", code(JSON.stringify(found.default))));
  if (found.readOnly) lines.push(make("li", {}, "read only"));
  if (found.writeOnly) lines.push(make("li", {}, "write only"));
  return lines.length > 0 ? make("ul", { class: "bounds" }, lines) : null;
}

function row(name, schema, required, note) {
  const found = flat(schema);
  const item = found.type === "array" && found.items ? bounds(flat(found.items)) : null;
  const quiet = [typeOf(schema), note].filter(Boolean).map((words) => make("span", { class: "type" }, words));
  const flags = [required ? make("strong", { class: "required" }, "required") : null, found.deprecated ? deprecated() : null];
  return make("tr", {},
    make("th", { scope: "row" }, breaking(String(name), /(?<=[._])/), quiet, flags),
    make("td", {}, prose(found.description), bounds(found), item ? make("div", {}, "each item: ", item) : null));
}

// The rows of everything inside a schema. `seen` holds the names on the way here, so that circles end.
function rowsInside(schema, prefix = "", seen = [], depth = 0) {
  const found = flat(schema);
  if (depth > DEPTH_MAX || (found.name && seen.includes(found.name))) return [];
  const path = [...seen, found.name, ...list(found.parts)].filter(Boolean);
  const inner = (schema, start) => rowsInside(schema, start, path, depth + 1);
  if (found.type === "array" && found.items) return inner(found.items, `${prefix.slice(0, -1)}[].`);
  const rows = entries(found.properties).flatMap(([name, property]) => [
    row(prefix + name, property, list(found.required).includes(name)),
    ...inner(property, `${prefix}${name}.`),
  ]);
  if (isObject(found.additionalProperties) && Object.keys(found.additionalProperties).length > 0) {
    rows.push(row(`${prefix}*`, found.additionalProperties, false, "any name"));
    rows.push(...inner(found.additionalProperties, `${prefix}*.`));
  }
  list(found.forms).forEach((form, at) => {
    const inside = inner(form, prefix);
    if (inside.length === 0) return;
    const title = `${prefix.replace(/\.$/, "") || "body"}: form ${at + 1}${flat(form).name ? `, ${flat(form).name}` : ""}`;
    rows.push(make("tr", {}, make("th", { scope: "colgroup", colspan: "2", class: "form" }, title)), ...inside);
  });
  return rows;
}

function table(caption, rows) {
  const head = make("tr", {}, ["Name", "Meaning"].map((title) => make("th", { scope: "col" }, title)));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, rows));
}

function schemaPart(schema, label) {
  if (!isObject(schema)) return [];
  const found = flat(schema);
  const rows = rowsInside(schema);
  const line = make("p", { class: "shape" }, typeOf(schema));
  return [line, prose(found.description), bounds(found), rows.length > 0 ? table(`Members of the ${label}`, rows) : null].flat();
}

// The examples of one media type: its own, or else the one its schema carries.
function examples(media) {
  const named = entries(media.examples).map(([name, example]) => [own(resolve(example), "summary") ?? name, resolve(example)]);
  if (named.length === 0 && media.example !== undefined) named.push(["", { value: media.example }]);
  if (named.length === 0) {
    const schema = flat(media.schema ?? {});
    const value = schema.example ?? list(schema.examples)[0];
    if (value !== undefined) named.push(["", { value }]);
  }
  return named.filter(([, example]) => example.value !== undefined);
}

function contentPart(content, label) {
  return entries(content).flatMap(([type, media]) => [
    make("p", { class: "media" }, code(type)),
    ...schemaPart(media.schema, label),
    ...examples(media).map(([name, example]) => {
      const title = `Example of the ${label}${name ? `: ${name}` : ""}`;
      const text = make("pre", { tabindex: "0", role: "region", "aria-label": title }, code(asText(example.value, 2)));
      return make("figure", {}, make("figcaption", {}, title), prose(example.description), text);
    }),
  ]);
}

function parametersPart(shared, operation) {
  const all = new Map();
  for (const parameter of [...list(shared), ...list(operation.parameters)].map(resolve)) {
    all.set(`${parameter.in} ${parameter.name}`, parameter);
  }
  if (all.size === 0) return [];
  const one = (parameter) => {
    const schema = { ...flat(parameter.schema ?? {}), deprecated: parameter.deprecated };
    schema.description = parameter.description ?? schema.description;
    const example = parameter.example ?? examples(parameter)[0]?.[1].value;
    const shown = row(parameter.name, schema, parameter.required === true, `in ${parameter.in}`);
    if (example !== undefined) shown.lastChild.append(make("p", {}, "For example ", code(asText(example))));
    return shown;
  };
  return [make("h4", {}, "Parameters"), table("Parameters", [...all.values()].map(one))];
}

function bodyPart(operation) {
  if (!operation.requestBody) return [];
  const body = resolve(operation.requestBody);
  return [make("h4", {}, `Request body${body.required === true ? "" : " (optional)"}`), ...prose(body.description), ...contentPart(body.content, "request")];
}

function responsesPart(operation) {
  const all = entries(operation.responses);
  return all.length === 0 ? [] : [make("h4", {}, "Responses"), ...all.map(([status, answer]) => {
    const response = resolve(answer);
    const headers = entries(response.headers).map(([name, header]) => {
      const found = resolve(header);
      const schema = flat(found.schema ?? {});
      return row(name, { ...schema, description: found.description ?? schema.description }, found.required === true);
    });
    const content = [headers.length > 0 ? table("Response headers", headers) : null, ...contentPart(response.content, "response")];
    const kind = /^[1-5]/.test(status) ? `status s${status[0]}` : "status";
    const heading = make("h5", {}, make("span", { class: kind }, status), ` ${STATUS[status] ?? ""}`);
    return make("section", { class: "response" }, heading, prose(response.description), content);
  })];
}

// Who may call: the scope extension, and the security requirements (any one of them is enough).
function securityOf(operation) {
  const scopes = [operation["x-scope"] ?? []].flat().map(String);
  const required = operation.security ?? api.security;
  const one = ([scheme, wanted]) => (list(wanted).length > 0 ? `${scheme} (${wanted.join(", ")})` : scheme);
  const ways = list(required).map((way) => entries(way).map(one).join(" and ") || "none");
  return { scopes, ways, open: scopes.length === 0 && ways.every((way) => way === "none") };
}

function securityPart({ scopes, ways, open }) {
  if (open) return make("p", { class: "needs" }, "Needs no credential.");
  const scope = scopes.length > 0 ? ["Scope ", scopes.flatMap((name, at) => [at > 0 ? ", " : "", code(name)]), ". "] : [];
  return make("p", { class: "needs" }, scope.flat(), ways.length > 0 ? `Credential: ${ways.join(", or ")}.` : "");
}

function operationCard({ id, method, path, operation, shared }) {
  const security = securityOf(operation);
  const name = make("h3", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), " ", breaking(path, /(?<=\/)/));
  const says = operation.summary ? make("span", { class: "summary" }, spans(operation.summary.trim())) : null;
  const title = make("summary", {}, name, says, operation.deprecated ? deprecated() : null);
  const link = make("p", { class: "link" }, make("a", { href: `#${encodeURIComponent(id)}` }, `#${id}`));
  const parts = [parametersPart(shared, operation), bodyPart(operation), responsesPart(operation)];
  const body = make("div", { class: "body" }, link, prose(operation.description), securityPart(security), parts.flat());
  const words = [method, path, id, operation.summary, operation.description, ...security.scopes].join(" ").toLowerCase();
  return { card: make("details", { id, class: "operation" }, title, body), words };
}

// Every operation of the document, with an id that no other thing on the page has.
function operationsOf() {
  const taken = new Set([...document.querySelectorAll("[id]")].map((element) => element.id));
  return entries(api.paths).flatMap(([path, item]) => METHODS.filter((method) => isObject(own(item, method))).map((method) => {
    const operation = item[method];
    const wanted = operation.operationId ?? `${method}${path.replace(/[^A-Za-z0-9]+/g, "-")}`;
    let id = wanted;
    for (let number = 2; taken.has(id); number += 1) id = `${wanted}-${number}`;
    taken.add(id);
    return { id, method, path, operation, shared: item.parameters, tag: list(operation.tags)[0] ?? "Other" };
  }));
}

function group(tag, operations) {
  const described = list(api.tags).find((known) => known.name === tag);
  const links = make("ul", {});
  const section = make("section", {}, make("h2", {}, tag), prose(own(described, "description")));
  const cards = operations.map((found) => {
    const { card, words } = operationCard(found);
    const method = make("span", { class: `method ${found.method}` }, found.method.toUpperCase());
    const name = make("span", {}, spans(found.operation.summary?.trim() || found.path));
    const link = make("li", {}, make("a", { href: `#${encodeURIComponent(found.id)}` }, method, name));
    section.append(card);
    links.append(link);
    return { card, link, words: `${words} ${tag.toLowerCase()}` };
  });
  return { section, contents: make("section", {}, make("h2", {}, tag), links), cards };
}

function filter(groups) {
  const wanted = byId("page-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let [shown, total] = [0, 0];
  for (const { section, contents, cards } of groups) {
    const hits = cards.filter(({ card, link, words }) => {
      const hit = wanted.every((word) => words.includes(word));
      card.hidden = !hit;
      link.hidden = !hit;
      return hit;
    });
    section.hidden = hits.length === 0;
    contents.hidden = hits.length === 0;
    shown += hits.length;
    total += cards.length;
  }
  byId("page-count").textContent = shown === total ? `${total} operations` : `${shown} of ${total} operations`;
}

// Opens what the address names. A search that hides it is given up.
function follow(groups) {
  const found = groups.flatMap(({ cards }) => cards).find(({ card }) => `#${encodeURIComponent(card.id)}` === location.hash);
  if (!found) return;
  if (found.card.hidden) {
    byId("page-search").value = "";
    filter(groups);
  }
  found.card.open = true;
  found.card.scrollIntoView({ block: "start" });
  found.card.querySelector("summary").focus({ preventScroll: true });
}

function listen(groups) {
  const search = byId("page-search");
  const all = byId("page-all");
  search.addEventListener("input", () => filter(groups));
  window.addEventListener("hashchange", () => follow(groups));
  // A second click on the same link changes no address, and still shall open it.
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[href^='#']") : null;
    if (link && link.getAttribute("href") === location.hash) follow(groups);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof Element && event.target.matches("input, textarea, select");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    search.focus();
  });
  all.addEventListener("click", () => {
    const open = all.getAttribute("aria-pressed") !== "true";
    all.setAttribute("aria-pressed", String(open));
    for (const { card } of groups.flatMap(({ cards }) => cards)) card.open = open;
  });
}

function show() {
  const title = api.info?.title ?? "API";
  document.title = title;
  byId("page-title").textContent = title;
  byId("page-version").textContent = api.info?.version ? `Version ${api.info.version}` : "";
  byId("page-introduction").append(...prose(api.info?.description));
  const operations = operationsOf();
  const tags = new Set([...list(api.tags).map((tag) => tag.name), ...operations.map(({ tag }) => tag)]);
  const tagged = [...tags].map((tag) => [tag, operations.filter((found) => found.tag === tag)]);
  const groups = tagged.filter(([, found]) => found.length > 0).map(([tag, found]) => group(tag, found));
  byId("page-operations").append(...groups.map(({ section }) => section));
  byId("page-links").append(...groups.map(({ contents }) => contents));
  byId("page-contents").open = matchMedia("(min-width: 60rem)").matches;
  byId("page-message").hidden = true;
  filter(groups);
  listen(groups);
  follow(groups);
}

async function start() {
  try {
    const answer = await fetch("/openapi.json", { headers: { accept: "application/json" } });
    if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
    api = await answer.json();
    show();
  } catch (fault) {
    byId("page-message").hidden = false;
    byId("page-message").textContent = `The description of the API cannot be shown: ${fault.message}. Reload the page to try again.`;
  }
}

start();
