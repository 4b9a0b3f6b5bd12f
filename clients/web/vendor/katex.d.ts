/** What the page uses of KaTeX. */

declare const katex: {
  /** Renders TeX into an element; throws for TeX that it cannot parse. */
  render(
    tex: string,
    element: HTMLElement,
    options: { output: "mathml"; displayMode: boolean; maxExpand: number; maxSize: number; strict: false },
  ): void;
};
export default katex;
