// Whether the page is as narrow as a phone.

/** The question as a MediaQueryList; the width is that of css/layout.css. */
export const narrow = matchMedia("(max-width: 720px)");
