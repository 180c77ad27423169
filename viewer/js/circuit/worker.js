// The worker that paints circuits beside the page.

self.onmessage = () => {};
