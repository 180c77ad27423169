// The graph as a graph file with the user's labels, groups and page state. Columns that did not change keep their checksums;
// those of labels and of the metadata are new (graphs/checksums.py).

import { labelOf } from "../data/labels.js";
import { withEntries } from "./json_entries.js";
import { xxh3 } from "./xxh3.js";

const [INFO, CHECKSUMS] = ["cotrace.graph", "cotrace.checksums"]; // keys of the metadata: graphs/metadata.py
const PAGE = "page"; // entry of the metadata with the state of the page, which the local server writes too
const encoder = new TextEncoder();

/**
 * Return the bytes of the graph file of a file with `saved`: {groups, labels, page}, where `labels` are the user's by name
 * without position.
 */
export function arrowBytes(graph, { groups, labels, page }) {
  const { batch, schema } = { batch: graph.table.batches[0], schema: graph.table.schema };
  const changed = Object.keys(labels).length ? labelColumns(graph, labels) : {};
  const entries = { groups: groups.length || graph.info.groups ? groups : undefined, [PAGE]: Object.keys(page).length ? page : undefined };
  const metadata = new Map(schema.metadata);
  const { columns } = JSON.parse(metadata.get(CHECKSUMS));
  metadata.delete(CHECKSUMS);
  metadata.set(INFO, withEntries(metadata.get(INFO), entries));
  for (const [name, { offsets, values }] of Object.entries(changed)) columns[name] = { offsets: xxh3(bytesOf(offsets)), values: xxh3(values) };
  metadata.set(CHECKSUMS, pythonJson({ columns, metadata: metadataSum(metadata, columns) }));
  return fileOf(schema, metadata, batch, changed);
}

function fileOf(schema, metadata, batch, changed) {
  const { makeData, RecordBatch, Schema, Struct, Table, tableToIPC } = globalThis.Arrow;
  const children = schema.fields.map(({ name, type }, at) => {
    if (!changed[name]) return batch.data.children[at];
    const { offsets, values } = changed[name];
    return makeData({ type, length: batch.numRows, nullCount: 0, valueOffsets: offsets, data: values });
  });
  const data = makeData({ type: new Struct(schema.fields), length: batch.numRows, nullCount: 0, children });
  const named = new Schema(schema.fields, metadata, schema.dictionaries, schema.metadataVersion);
  return tableToIPC(new Table([new RecordBatch(named, data)]), "file");
}

/** Return {label, label_source}, each as {offsets, values} of a column of texts. */
function labelColumns(graph, labels) {
  const nodes = Array.from({ length: graph.size }, (_, node) => labelOf(graph, node, labels));
  return { label: textColumn(nodes.map((label) => label?.text ?? "")), label_source: textColumn(nodes.map((label) => label?.source ?? "")) };
}

function textColumn(texts) {
  const encoded = texts.map((text) => encoder.encode(text));
  const offsets = new Int32Array(texts.length + 1);
  encoded.forEach((bytes, at) => (offsets[at + 1] = offsets[at] + bytes.length));
  const values = new Uint8Array(offsets.at(-1));
  encoded.forEach((bytes, at) => values.set(bytes, offsets[at]));
  return { offsets, values };
}

/** Return the checksum of the metadata, which covers those of the columns. */
function metadataSum(metadata, columns) {
  const entries = [...metadata].map(([key, value]) => [hex(key), hex(value)]).sort(([a], [b]) => (a < b ? -1 : 1));
  return xxh3(encoder.encode(pythonJson([entries, columns])));
}

function hex(text) {
  return Array.from(encoder.encode(text), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function bytesOf(array) {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Return ASCII texts, arrays and objects of them as json.dumps of Python with sorted keys. */
function pythonJson(value) {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const entries = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}: ${pythonJson(value[key])}`);
  return `{${entries.join(", ")}}`;
}
