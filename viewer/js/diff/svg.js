// Two drawings as one.

const SIZE = /^<svg [^>]*?\bwidth="([\d.]+)" height="([\d.]+)"/;

/** Return SVG files of circuit/svg.js beside each other as one file. */
export function besideEachOther(texts) {
  if (texts.length === 1) return texts[0];
  let [width, height] = [0, 0];
  const parts = texts.map((text) => {
    const [own, high] = SIZE.exec(text).slice(1).map(Number);
    const part = text.replace("<svg ", `<svg x="${width}" `);
    [width, height] = [width + own, Math.max(height, high)];
    return part;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">\n${parts.join("")}</svg>\n`;
}
